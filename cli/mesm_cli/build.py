"""mesm-data build."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesm_cli import console
from mesm_data.errors import InputError, MesmError

if TYPE_CHECKING:
    from mesm_data.dataset.recipe import Recipe
    from mesm_data.integrity.lock_reader import Lock
    from mesm_data.schema.recordings import Corpus

TOLERATED = 0.05  # the share of failed utterances above which a build's answer is "no"
SHOWN = 10


class BuildEngine(StrEnum):
    """Where a build can work."""

    local = "local"
    ray = "ray"


class BuildFaceDetector(StrEnum):
    """What finds the faces (mesm_data.media.faces.detector.DETECTORS)."""

    mtcnn = "mtcnn"
    yunet = "yunet"


@console.when_stopped(console.RESUMES)
def build(
    corpus: Annotated[
        str, typer.Argument(help="A corpus (see `mesm-data corpora`), a table (clips.csv) or a corpus.toml.")
    ],
    out: Annotated[Path, typer.Option(help="The dataset's folder.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--source",
            "--root",
            help="The folder of the corpus (default: $MESM_IEMOCAP and its like), or of a table's media files.",
        ),
    ] = None,
    only: Annotated[str | None, typer.Option(help="Only utterances whose id matches this glob.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N utterances.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Group the files by this split's parts: a rule, a published list, or a path.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (default: one per core).")] = None,
    engine: Annotated[
        BuildEngine, typer.Option(help="ray: on a Ray cluster that shares a file system (docs/scaling.md).")
    ] = BuildEngine.local,
    no_video: Annotated[bool, typer.Option("--no-video", help="Write no clips (faces are cut all the same).")] = False,
    video_offset: Annotated[
        str, typer.Option(help="Seconds to add to an utterance's times where the video is cut, such as -0.167.")
    ] = "0",
    face_size: Annotated[
        int | None, typer.Option(help="Side of a face crop in pixels, 16 to 1024 (default: 48).")
    ] = None,
    frame_interval: Annotated[
        str | None, typer.Option(help="Seconds between face crops, 0.01 to 3600 (default: 0.5).")
    ] = None,
    min_face_size: Annotated[
        int | None, typer.Option(help="Side of the smallest face that is found, in pixels, 12 to 4096 (default: 40).")
    ] = None,
    sample_rate: Annotated[
        int | None, typer.Option(help="Sample rate of the stored sound in Hz, 8000 to 48000 (default: 16000).")
    ] = None,
    face_detector: Annotated[
        BuildFaceDetector | None, typer.Option(help="What finds the faces (default: mtcnn).")
    ] = None,
    face_model: Annotated[Path | None, typer.Option(help="The ONNX file of --face-detector yunet.")] = None,
    lock: Annotated[
        Path | None, typer.Option(help="Build what this recipe.lock says, and compare (docs/proof.md).")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier build left in --out.")
    ] = False,
) -> None:
    """Turn a raw corpus into shards. Stopped or killed, the same command goes on.

    \b
    Examples:
      mesm-data build iemocap --source /corpora/IEMOCAP_full_release --out /data/iemocap
      mesm-data build iemocap --out /data/try --only 'Ses01F_impro*' --limit 20
      mesm-data build iemocap --out /data/iemocap --split session-5
      mesm-data build mosei --source /corpora/CMU_MOSEI --out /data/mosei
      mesm-data build clips.csv --root /media/clips --out /data/clips
      mesm-data build corpus.toml --out /data/clips
      mesm-data build iemocap --out /data/iemocap --lock recipe.lock
      mesm-data build iemocap --out /data/large --face-size 96 --frame-interval 0.25 --sample-rate 44100
    """
    from mesm_cli.splits import report_leaks
    from mesm_data.corpora.open_corpus import open_corpus
    from mesm_data.dataset.recipe import Recipe
    from mesm_data.media.options import detector_options, seconds
    from mesm_data.pipeline.build import build as build_dataset

    followed = None
    media: dict[str, Any] = {
        "face_size": face_size,
        "frame_interval": frame_interval,
        "min_face_size": min_face_size,
        "sample_rate": sample_rate,
        "face_detector": face_detector and face_detector.value,
        "face_model": face_model,
    }
    options = {name: value for name, value in media.items() if value is not None}
    recipe = Recipe(corpus="", clips=not no_video, only=only, limit=limit, video_offset=seconds(video_offset))
    if lock:  # before the corpus is scanned, which can take minutes
        followed, recipe = follow(lock, corpus, recipe, options)
    found = open_corpus(corpus, source)
    if followed:
        check_corpus(followed, found.name)
        split = split or followed.split(found)
    else:
        recipe = replace(recipe, corpus=found.name)
        options |= detector_options(options.get("face_detector", recipe.face_detector), face_model)
        recipe = replace(recipe, **options)
    show_notes(found.notes)
    with Bar() as bar:
        said = build_dataset(
            found,
            out,
            recipe,
            split=split,
            workers=workers,
            engine=engine.value,
            overwrite=overwrite,
            lock=followed,
            face_model=face_model,
            progress=bar,
        )
    say_schema(found, out)
    report_leaks(out, said)
    if followed:
        compare(out, followed, said)
    report(out, said)


def follow(path: Path, corpus: str, given: "Recipe", media: Iterable[str]) -> "tuple[Lock, Recipe]":
    """A lock and its recipe. InputError if it is of another corpus, or decides an option that is given.

    `corpus` is the name of a corpus, or a table or corpus.toml, whose name is not known yet. `media` names further
    options of the recipe that are given.
    """
    from mesm_data.corpora.table.corpus_file import is_corpus_file
    from mesm_data.integrity.lock_reader import read
    from mesm_data.media.toolchain import toolchain

    lock = read(path)
    if not is_corpus_file(corpus):
        check_corpus(lock, corpus)
    options = {"--only": given.only, "--limit": given.limit, "--video-offset": given.video_offset != "0"}
    options |= {f"--{name.replace('_', '-')}": True for name in media}
    if named := [name for name, value in options.items() if value]:
        raise InputError(f"{named[0]} cannot be given with --lock: the lock says what is built")
    if differs := lock.other_tools(toolchain()):
        console.say(f"note: this toolchain is not the lock's ({differs}); what differs for it is told below")
    return lock, replace(lock.recipe, clips=lock.recipe.clips and given.clips)


def check_corpus(lock: "Lock", corpus: str) -> None:
    """Raises InputError if a lock is not of this corpus."""
    if lock.recipe.corpus != corpus:
        raise InputError(f"{lock.path} is of {lock.recipe.corpus}, not of {corpus}")


def compare(out: Path, lock: "Lock", said: dict[str, Any]) -> None:
    """Compare with the lock, write rebuild.csv, and say how it went; MesmError if a sample is different."""
    from mesm_data.integrity import rebuild_check as rebuild

    found = rebuild.check(out, lock)
    console.say(f"rebuilt by {lock.path}: {rebuild.summary(found, lock, said)}")
    different = [(key, what) for key, verdict, what in found if verdict == "different"]
    for key, what in different[:SHOWN]:
        console.say(f"different: {key}: {what}")
    if different:
        raise MesmError(
            f"{len(different)} of {len(found)} samples are different from the lock; {out / rebuild.NAME} lists them all"
        )


def say_schema(corpus: "Corpus", out: Path) -> None:
    """Write an inferred schema to OUT/corpus.toml, where it can be edited, and say so."""
    from mesm_data.corpora.table.corpus_file import write_corpus_toml

    if corpus.file and corpus.file.suffix.lower() != ".toml":
        write_corpus_toml(corpus, out / "corpus.toml")
        console.say(
            f"the labels, views and splits were inferred: {out / 'corpus.toml'} states them; edit a copy of it and "
            "build that to change them"
        )


def show_notes(notes: tuple[str, ...]) -> None:
    """What the scan noticed; all of it is kept in dataset.json."""
    for note in notes[:SHOWN]:
        console.say(f"note: {note}")
    if len(notes) > SHOWN:
        console.say(f"note: and {len(notes) - SHOWN} more, all in dataset.json")


class Bar:
    """A tqdm bar over utterances, with rate and time left; it leaves its line before anything else is said."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def __enter__(self) -> "Bar":
        return self

    def __call__(self, what: str, total: int, todo: int) -> Callable[[int], object]:
        from tqdm import tqdm

        self._open.close()
        bar = tqdm(total=total, initial=total - todo, unit="utt", desc=what, smoothing=0.05, dynamic_ncols=True)
        return self._open.enter_context(bar).update

    def __exit__(self, *_: object) -> None:
        self._open.close()


def report(out: Path, said: dict[str, Any]) -> None:
    """The counts on stderr and the root on stdout; MesmError if too much of the corpus failed."""
    counts = said["counts"]
    kind = "SYNTHETIC " if said["synthetic"] else ""
    console.say(
        f"{kind}{said['corpus']}: {counts['total']} utterances = {counts['ok']} ok + {counts['failed']} failed "
        f"+ {counts['excluded']} excluded, {len(said['shards'])} shards in {out}"
    )
    for finding in said.get("findings", ()):
        console.say(finding)
    console.show(f"root {said['root']}")
    asked = counts["ok"] + counts["failed"]
    lost = out / "failures.csv"
    if counts["failed"] > TOLERATED * asked:
        raise MesmError(
            f"{counts['failed']} of {asked} utterances failed; what could be built is complete and usable. "
            f"The reasons: {lost}. After a repair: mesm-data retry {out}"
        )
    if lost.exists():
        console.say(f"what was lost: {lost}. After a repair: mesm-data retry {out}")
    console.say(f"next: mesm-data inspect {out}")

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

MAX_FAILED = 0.05  # of all utterances: above this share the exit code is 1
MAX_SHOWN = 10  # notes or samples


class BuildEngine(StrEnum):
    """Where a build can run."""

    local = "local"
    ray = "ray"


class BuildFaceDetector(StrEnum):
    """The face detectors (mesm_data.media.faces.detector.DETECTORS)."""

    mtcnn = "mtcnn"
    yunet = "yunet"


@console.when_stopped(console.RESUMES)
def build(
    corpus: Annotated[
        str, typer.Argument(help="A corpus (see `mesm-data corpora`), a table (clips.csv) or a corpus.toml.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the dataset.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--source",
            "--root",
            help="The folder of the corpus (default: $MESM_IEMOCAP or $MESM_MOSEI ...), or of a table's media files.",
        ),
    ] = None,
    only: Annotated[str | None, typer.Option(help="Build only utterances whose id matches this glob.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Build only the first N utterances.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Group the files by this split's parts: a rule, a published list, or a path.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (default: one per core).")] = None,
    engine: Annotated[
        BuildEngine, typer.Option(help="ray: on a Ray cluster that shares a file system (docs/scaling.md).")
    ] = BuildEngine.local,
    no_video: Annotated[bool, typer.Option("--no-video", help="Write no clips (faces are cropped).")] = False,
    video_offset: Annotated[
        str, typer.Option(help="Seconds to add to an utterance's times in the video, such as -0.167.")
    ] = "0",
    face_size: Annotated[
        int | None, typer.Option(help="Side of a face crop in pixels, 16 to 1024 (default: 48).")
    ] = None,
    frame_interval: Annotated[
        str | None, typer.Option(help="Seconds between face crops, 0.01 to 3600 (default: 0.5).")
    ] = None,
    min_face_size: Annotated[
        int | None, typer.Option(help="Side of the smallest face to detect, in pixels, 12 to 4096 (default: 40).")
    ] = None,
    sample_rate: Annotated[
        int | None, typer.Option(help="Sample rate of the stored sound in Hz, 8000 to 48000 (default: 16000).")
    ] = None,
    face_detector: Annotated[BuildFaceDetector | None, typer.Option(help="Face detector (default: mtcnn).")] = None,
    face_model: Annotated[Path | None, typer.Option(help="The ONNX file of --face-detector yunet.")] = None,
    lock: Annotated[
        Path | None, typer.Option(help="Build by this recipe.lock, and compare with it (docs/proof.md).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier build in --out.")] = False,
) -> None:
    """Turn a raw corpus into shards. Safe to interrupt: run the same command again to resume.

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
    from mesm_data.media.options import detector_options, parse_seconds
    from mesm_data.pipeline.build import build_dataset

    followed_lock = None
    media: dict[str, Any] = {
        "face_size": face_size,
        "frame_interval": frame_interval,
        "min_face_size": min_face_size,
        "sample_rate": sample_rate,
        "face_detector": face_detector and face_detector.value,
        "face_model": face_model,
    }
    options = {name: value for name, value in media.items() if value is not None}
    recipe = Recipe(corpus="", clips=not no_video, only=only, limit=limit, video_offset=parse_seconds(video_offset))
    if lock:  # before the corpus is scanned, which can take minutes
        followed_lock, recipe = read_lock(lock, corpus, recipe, options)
    scanned = open_corpus(corpus, source)
    if followed_lock:
        check_corpus(followed_lock, scanned.name)
        split = split or followed_lock.split_name(scanned)
    else:
        recipe = replace(recipe, corpus=scanned.name)
        options |= detector_options(options.get("face_detector", recipe.face_detector), face_model)
        recipe = replace(recipe, **options)
    show_notes(scanned.notes)
    with Bar() as bar:
        info = build_dataset(
            scanned,
            out,
            recipe,
            split=split,
            workers=workers,
            engine=engine.value,
            overwrite=overwrite,
            lock=followed_lock,
            face_model=face_model,
            progress=bar,
        )
    write_inferred_schema(scanned, out)
    report_leaks(out, info)
    if followed_lock:
        compare_with_lock(out, followed_lock, info)
    report(out, info)


def read_lock(path: Path, corpus: str, options: "Recipe", media: Iterable[str]) -> "tuple[Lock, Recipe]":
    """Read a lock and its recipe.

    Args:
        path: The lock.
        corpus: The name of a corpus, or the path of a table or corpus.toml, whose name is not known yet.
        options: The options of the command line.
        media: The names of further options on the command line.

    Raises:
        InputError: The lock is of another corpus, or an option of the command line conflicts with it.
    """
    from mesm_data.corpora.table.corpus_file import is_corpus_file
    from mesm_data.integrity.lock_reader import read_lock
    from mesm_data.media.toolchain import toolchain_versions

    lock = read_lock(path)
    if not is_corpus_file(corpus):
        check_corpus(lock, corpus)
    conflicts = {"--only": options.only, "--limit": options.limit, "--video-offset": options.video_offset != "0"}
    conflicts |= {f"--{name.replace('_', '-')}": True for name in media}
    if named := [name for name, value in conflicts.items() if value]:
        raise InputError(f"{named[0]} cannot be given with --lock: the lock says what is built")
    if differs := lock.toolchain_difference(toolchain_versions()):
        console.say(f"note: this toolchain is not the lock's ({differs}); samples that differ are listed below")
    return lock, replace(lock.recipe, clips=lock.recipe.clips and options.clips)


def check_corpus(lock: "Lock", corpus: str) -> None:
    """Raises InputError if a lock is not of this corpus."""
    if lock.recipe.corpus != corpus:
        raise InputError(f"{lock.path} is of {lock.recipe.corpus}, not of {corpus}")


def compare_with_lock(out: Path, lock: "Lock", info: dict[str, Any]) -> None:
    """Compare the dataset with the lock and write rebuild.csv. Raises MesmError if a sample is different."""
    from mesm_data.integrity.lock_comparison import DIFFERENT, REBUILD_NAME, compare_build, summarize

    comparisons = compare_build(out, lock)
    console.say(f"rebuilt by {lock.path}: {summarize(comparisons, lock, info['root'])}")
    different = [(key, what) for key, verdict, what in comparisons if verdict == DIFFERENT]
    for key, what in different[:MAX_SHOWN]:
        console.say(f"different: {key}: {what}")
    if different:
        raise MesmError(
            f"{len(different)} of {len(comparisons)} samples are different from the lock; {out / REBUILD_NAME} lists "
            "them all"
        )


def write_inferred_schema(corpus: "Corpus", out: Path) -> None:
    """Write the inferred schema of a table to OUT/corpus.toml."""
    from mesm_data.corpora.table.corpus_file import write_corpus_toml

    if corpus.file and corpus.file.suffix.lower() != ".toml":
        write_corpus_toml(corpus, out / "corpus.toml")
        console.say(
            f"the labels, views and splits were inferred: {out / 'corpus.toml'} states them; edit a copy of it and "
            "build that to change them"
        )


def show_notes(notes: tuple[str, ...]) -> None:
    """Print the first notes of the scan; dataset.json has all of them."""
    for note in notes[:MAX_SHOWN]:
        console.say(f"note: {note}")
    if len(notes) > MAX_SHOWN:
        console.say(f"note: and {len(notes) - MAX_SHOWN} more, all in dataset.json")


class Bar:
    """A progress bar over utterances, which is closed before another message is printed."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def __enter__(self) -> "Bar":
        return self

    def __call__(self, phase: str, total: int, todo: int) -> Callable[[int], object]:
        from tqdm import tqdm

        self._open.close()
        bar = tqdm(total=total, initial=total - todo, unit="utt", desc=phase, smoothing=0.05, dynamic_ncols=True)
        return self._open.enter_context(bar).update

    def __exit__(self, *_: object) -> None:
        self._open.close()


def report(out: Path, info: dict[str, Any]) -> None:
    """Print the counts on stderr and the root on stdout. Raises MesmError if more than 5 % of the utterances failed."""
    counts = info["counts"]
    kind = "SYNTHETIC " if info["synthetic"] else ""
    console.say(
        f"{kind}{info['corpus']}: {counts['total']} utterances = {counts['ok']} ok + {counts['failed']} failed "
        f"+ {counts['excluded']} excluded, {len(info['shards'])} shards in {out}"
    )
    for finding in info.get("findings", ()):
        console.say(finding)
    console.show(f"root {info['root']}")
    total = counts["ok"] + counts["failed"]
    failures = out / "failures.csv"
    if counts["failed"] > MAX_FAILED * total:
        raise MesmError(
            f"{counts['failed']} of {total} utterances failed; what could be built is complete and usable. "
            f"The reasons: {failures}. After a repair: mesm-data retry {out}"
        )
    if failures.exists():
        console.say(f"what was lost: {failures}. After a repair: mesm-data retry {out}")
    console.say(f"next: mesm-data inspect {out}")

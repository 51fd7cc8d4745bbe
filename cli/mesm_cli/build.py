"""mesm-data build."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesm_cli import console
from mesm_cli.build_lock import check_corpus, compare_with_lock, read_lock_for
from mesm_cli.progress_bar import ProgressBar
from mesm_data.errors import MesmError

if TYPE_CHECKING:
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
        followed_lock, recipe = read_lock_for(lock, corpus, recipe, options)
    scanned = open_corpus(corpus, source)
    if followed_lock:
        check_corpus(followed_lock, scanned.name)
        split = split or followed_lock.split_name(scanned)
    else:
        recipe = replace(recipe, corpus=scanned.name)
        options |= detector_options(options.get("face_detector", recipe.face_detector), face_model)
        recipe = replace(recipe, **options)
    show_notes(scanned.notes)
    with ProgressBar() as bar:
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
    write_inferred_schema(scanned, out, overwrite=overwrite)
    report_leaks(out, info)
    if followed_lock:
        compare_with_lock(out, followed_lock, info)
    report(out, info)


def write_inferred_schema(corpus: "Corpus", out: Path, *, overwrite: bool) -> None:
    """Write the inferred schema of a table to OUT/corpus.toml.

    One that was edited there is replaced by `overwrite` alone, which deletes it if the corpus has another schema.
    """
    from mesm_data.corpora.table.corpus_file import write_corpus_toml

    path = out / "corpus.toml"
    if corpus.file and corpus.file.suffix.lower() != ".toml":
        if overwrite or not path.exists():
            write_corpus_toml(corpus, path)
        console.say(
            f"the labels, views and splits were inferred: {path} states them; edit a copy of it and build that to "
            "change them"
        )
    elif overwrite and not (corpus.file and path.exists() and path.samefile(corpus.file)):
        path.unlink(missing_ok=True)


def show_notes(notes: tuple[str, ...]) -> None:
    """Print the first notes of the scan; dataset.json has all of them."""
    for note in notes[:MAX_SHOWN]:
        console.say(f"note: {note}")
    if len(notes) > MAX_SHOWN:
        console.say(f"note: and {len(notes) - MAX_SHOWN} more, all in dataset.json")


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

"""mesm-data retry."""

from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_cli.build import BuildEngine, report, show_notes
from mesm_cli.progress_bar import ProgressBar


@console.when_stopped(console.RESUMES)
def retry(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset.")],
    source: Annotated[
        Path | None, typer.Option(help="The folder of the corpus, if it has moved since the build.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (default: one per core).")] = None,
    engine: Annotated[BuildEngine, typer.Option(help="Where to run.")] = BuildEngine.local,
    face_model: Annotated[
        Path | None, typer.Option(help="The ONNX file that the dataset was built with, for --face-detector yunet.")
    ] = None,
) -> None:
    """Rebuild the utterances that failed (failures.csv) or whose media files were replaced.

    All others are kept, in a finished dataset or an interrupted build, and the result is identical to a new build. If
    anything but media files changed, run a new build. Safe to interrupt: run the same command again to resume.

    \b
    Examples:
      mesm-data retry /data/iemocap
      mesm-data retry /data/iemocap --source /mnt/backup/IEMOCAP_full_release
    """
    from mesm_data.corpora.open_corpus import open_corpus
    from mesm_data.pipeline.retry import read_recorded_plan, retry_dataset
    from mesm_data.pipeline.source_record import load_corpus_file, load_source_index

    corpus = read_recorded_plan(path)["recipe"]["corpus"]
    index = load_source_index(path)
    scanned = open_corpus(str(load_corpus_file(path) or corpus), source or (index[0] if index else None))
    show_notes(scanned.notes)
    with ProgressBar() as bar:
        info = retry_dataset(
            scanned,
            path,
            workers=workers,
            engine=engine.value,
            face_model=face_model,
            progress=bar,
            report=bar.say,
        )
    report(path, info)

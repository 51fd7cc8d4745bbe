"""mesm-data retry."""

from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_cli.build import Bar, BuildEngine, report, show_notes


@console.when_stopped(console.RESUMES)
def retry(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset.")],
    source: Annotated[
        Path | None, typer.Option(help="The corpus, if it does not lie any more where it lay at the build.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (default: one per core).")] = None,
    engine: Annotated[BuildEngine, typer.Option(help="Where to work.")] = BuildEngine.local,
    face_model: Annotated[
        Path | None, typer.Option(help="The ONNX file that the dataset was built with, if its --face-detector has one.")
    ] = None,
) -> None:
    """After a repair of the source, do again what was lost (failures.csv) or made of files that are others now.

    All else is kept, whether the dataset is finished or its build was stopped, and the result is the same as if it were
    built anew. Stopped or killed, the same command goes on.

    \b
    Examples:
      mesm-data retry /data/iemocap
      mesm-data retry /data/iemocap --source /mnt/backup/IEMOCAP_full_release
    """
    from mesm_data.corpora.open_corpus import open_corpus
    from mesm_data.pipeline.retry import read_recorded_plan, retry_dataset
    from mesm_data.pipeline.source_record import load_corpus_file, load_source_index

    corpus = read_recorded_plan(path)["recipe"]["corpus"]
    before = load_source_index(path)
    found = open_corpus(str(load_corpus_file(path) or corpus), source or (before[0] if before else None))
    show_notes(found.notes)
    with Bar() as bar:
        said = retry_dataset(
            found,
            path,
            workers=workers,
            engine=engine.value,
            face_model=face_model,
            progress=bar,
            say=console.say,
        )
    report(path, said)

"""mesm-data retry."""

from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_cli.build import Bar, BuildEngine, from_environment, report, show_notes


def retry(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset.")],
    source: Annotated[
        Path | None, typer.Option(help="The corpus, if it does not lie any more where it lay at the build.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (default: one per core).")] = None,
    engine: Annotated[BuildEngine, typer.Option(help="Where to work.")] = BuildEngine.local,
) -> None:
    """After a repair of the source, do again what was lost (failures.csv) or made of files that are others now.

    All else is kept, whether the dataset is finished or its build was stopped, and the result is the same as if it were
    built anew. Stopped or killed, the same command goes on.

    \b
    Examples:
      mesm-data retry /data/iemocap
      mesm-data retry /data/iemocap --source /mnt/backup/IEMOCAP_full_release
    """
    from mesm_data import retry as library
    from mesm_data.corpora import scan
    from mesm_data.source import remembered

    corpus = library.known(path)["recipe"]["corpus"]
    before = remembered(path)
    found = scan(corpus, source or (before[0] if before else from_environment(corpus)))
    show_notes(found.notes)
    with Bar() as bar:
        said = library.retry(found, path, workers=workers, engine=engine.value, progress=bar, say=console.say)
    report(path, said)

"""mesm-data fetch."""

from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_cli.progress_bar import ProgressBar


@console.when_stopped(console.RESUMES)
def fetch(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Where the dataset is published: a folder, http(s)://, s3://, hf://.")
    ],
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or that of an interrupted fetch.")],
) -> None:
    """Download a published dataset. Resumable; every file is checked before it is put in place.

    \b
    Examples:
      mesm-data fetch https://lab.example.org/iemocap-recipe recipe
      mesm-data fetch s3://lab/iemocap /data/iemocap
    """
    from mesm_data.publishing import fetch as publications

    with ProgressBar("B", leave=False) as progress:
        tier, root = publications.fetch(url, path, progress=progress)
    console.show(path)
    if tier == "recipe":
        console.say(f"the recipe of root {root}; next: build it from your copy of the corpus, see {path / 'README.md'}")
        return
    console.say(f"every file is as {'copied' if tier == 'copy' else 'published'}, root {root}")
    console.say(f"next: mesm-data verify {path}")

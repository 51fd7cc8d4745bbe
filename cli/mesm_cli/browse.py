"""mesm-data browse."""

from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console


def browse(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0: any free one.")] = 8765,
) -> None:
    """Look at a dataset in a browser on this machine: filters, faces, spectrogram, words that follow the sound, raters.

    The page is served on 127.0.0.1 only and works without a network. It needs the extra `app`.

    \b
    Example:
      mesm-data browse /data/iemocap
    """
    from mesm_data.browse.page import browse as serve

    with console.when_stopped("the page is closed"):
        serve(path, port=port, ready=console.show)

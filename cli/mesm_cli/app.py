"""mesm-train app."""

from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console


def app(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, an exported one, or a model of the Hub.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0: any free one.")] = 8765,
    glove: Annotated[
        Path | None, typer.Option(help="The text file of GloVe that the training data's features come from, if any.")
    ] = None,
    device: Annotated[str, typer.Option(help="As torch names it; auto: a graphics card if there is one.")] = "auto",
) -> None:
    """Try a trained model in a browser on this machine: drop or record a clip, see what it predicts and why.

    The page is served on 127.0.0.1 only and works without a network; uploads are deleted. It needs the extra `app`.

    \b
    Example:
      mesm-train app runs/demo-mesm
    """
    from mesm_train.app.page import run_app

    with console.when_stopped("the page is closed"):
        run_app(run, device=device, glove=glove, port=port, ready=console.show)

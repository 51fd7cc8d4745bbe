"""mesm-data sample."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_cli.progress_bar import ProgressBar
from mesm_data.errors import InputError


class SampleCorpus(StrEnum):
    """The corpora whose layout can be written."""

    iemocap = "iemocap"
    mosei = "mosei"


class Mode(StrEnum):
    """How faces are rendered."""

    bank = "bank"
    full = "full"


def sample(
    corpus: Annotated[SampleCorpus, typer.Argument(help="The corpus whose layout is used.")],
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    dialogs: Annotated[
        int | None,
        typer.Option(min=1, help="Number of dialogs (default: 10); for mosei, number of videos (default: 12)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    mode: Annotated[
        Mode, typer.Option(help="bank: cached images of faces. full: render every frame (slow).")
    ] = Mode.bank,
) -> None:
    """Write a small SYNTHETIC corpus in the layout of a real one: talking heads, synthetic speech, labels.

    \b
    Examples:
      mesm-data sample iemocap /tmp/iemocap
      mesm-data sample mosei /tmp/mosei --dialogs 4
    """
    try:
        from mesm_data.synthetic import iemocap, mosei
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed (only this command needs it): pip install 'mesm[sample]'"
        ) from None
    with ProgressBar("dialog" if corpus is SampleCorpus.iemocap else "video") as bar:
        if corpus is SampleCorpus.iemocap:
            iemocap.write_corpus(out, dialogs=dialogs, seed=seed, mode=mode.value, progress=bar)
        else:
            mosei.write_corpus(out, videos=dialogs, seed=seed, mode=mode.value, progress=bar)
    console.say(f"wrote a synthetic {corpus.value} to {out}")
    console.say(f"next: mesm-data build {corpus.value} --source {out} --out {out}-shards")

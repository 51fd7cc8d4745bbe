"""mesm-data sample."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_data.errors import InputError


class SampleCorpus(StrEnum):
    """Corpora that can be written."""

    iemocap = "iemocap"
    mosei = "mosei"


class Mode(StrEnum):
    """How faces are drawn."""

    bank = "bank"
    full = "full"


def sample(
    corpus: Annotated[SampleCorpus, typer.Argument(help="The corpus whose layout is written.")],
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    dialogs: Annotated[
        int | None, typer.Option(min=1, help="Number of dialogs (default: 10), or of mosei's videos (default: 12).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another corpus.")] = 0,
    mode: Annotated[Mode, typer.Option(help="bank: cached sprites. full: every frame is rendered (slow).")] = Mode.bank,
) -> None:
    """Write a small SYNTHETIC corpus in a real corpus' layout: talking heads, synthetic speech, labels.

    \b
    Examples:
      mesm-data sample iemocap /tmp/iemocap
      mesm-data sample mosei /tmp/mosei --dialogs 4
    """
    try:
        from mesm_data.synthetic import iemocap, mosei
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is missing, which only this command needs: pip install 'mesm[sample]'"
        ) from None
    if corpus is SampleCorpus.iemocap:
        iemocap.write(out, dialogs=dialogs, seed=seed, mode=mode.value)
    else:
        mosei.write(out, videos=dialogs, seed=seed, mode=mode.value)
    console.say(f"wrote a synthetic {corpus.value} to {out}")
    console.say(f"next: mesm-data build {corpus.value} --source {out} --out {out}-shards")

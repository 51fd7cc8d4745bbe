"""mesm-train run and eval."""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console

PARTS = "train, valid or test"


def run(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe's name, or a YAML file; none lists the recipes.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="The folder of a dataset.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: --set optim.lr=1e-4")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder (default: runs/NAME).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out if there is one.")] = False,
) -> None:
    """Train a model and test its best epoch.

    \b
    Examples:
      mesm-train run demo-fe2e --data demo/iemocap-shards
      mesm-train run iemocap-mesm --data /data/iemocap --set split=session-5 --set optim.batch=4 --out runs/s5
    """
    from mesm_train.config import load_recipe, recipes

    if recipe is None:
        for name in recipes():
            typer.echo(name)
        return
    config = load_recipe(recipe, [*(sets or ()), *([f"data={json.dumps(data)}"] if data else [])])
    place = out or Path("runs") / config.name
    from mesm_train.runs import begin
    from mesm_train.watch import Bar, Lines

    stop = StopFlag()
    if not begin(config, place, resume=resume, stop=stop, watcher=Bar() if sys.stderr.isatty() else Lines()):
        raise console.Stopped
    console.say(f"next: mesm-train eval {place}")


def evaluate(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run that has ended.")],
    part: Annotated[str, typer.Option("--split", help=f"The part of the split: {PARTS}.")] = "test",
    data: Annotated[str | None, typer.Option(help="Another dataset to ask the model about.")] = None,
) -> None:
    """Compute the scores of a run again, and say whether they are those that it wrote down.

    \b
    Examples:
      mesm-train eval runs/demo-fe2e
      mesm-train eval runs/demo-fe2e --split valid --data /data/other-shards
    """
    from mesm_data.errors import InputError, MesmError
    from mesm_train import runs

    if part not in PARTS:
        raise InputError(f"--split {part!r}: expected {PARTS}")
    judged = runs.evaluate(path, part=part, data=data)
    typer.echo(json.dumps(judged.scores, indent=2))
    for sentence in judged.differences:
        console.say(f"differs: {sentence}")
    if judged.before is None:
        return
    if judged.before != judged.scores:
        raise MesmError(f"{path}: these are not the scores that the run wrote down in metrics.jsonl")
    console.say(f"{path}: the same scores as the run wrote down")


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs that have ended.")],
) -> None:
    """Show the test scores of several runs beside each other, with the floors of their data.

    \b
    Example:
      mesm-train compare runs/iemocap-fe2e runs/iemocap-mesm
    """
    from mesm_train import compare as comparison

    rows, remarks = comparison.compare(runs)
    widths = [max(map(len, column)) for column in zip(comparison.HEAD, *rows, strict=True)]
    for row in (comparison.HEAD, *rows):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for remark in remarks:
        typer.echo(remark)


class StopFlag:
    """Ctrl-C and SIGTERM ask the loop to save and end after the step under way; a second one ends it at once."""

    def __init__(self) -> None:
        self._asked = False
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def __call__(self) -> bool:
        return self._asked

    def _ask(self, number: int, _: object) -> None:
        self._asked = True
        console.say("\nstopping after this step")
        signal.signal(number, self._before[signal.Signals(number)])

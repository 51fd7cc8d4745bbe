"""mesm-train report."""

from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_data.errors import InputError, MesmError


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    data: Annotated[
        str | None, typer.Option(help="The run's dataset, if it was moved; for pictures, groups and kept sites.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Of several runs: the page (default: comparison.html).")] = None,
) -> None:
    """Write RUN/report.html again, or one page with several runs side by side.

    Without the dataset the page of one run has no pictures, no sound and no groups of utterances.

    \b
    Examples:
      mesm-train report runs/demo-mesm
      mesm-train report runs/demo-fe2e runs/demo-mesm --out comparison.html
    """
    from mesm_train.report import page
    from mesm_train.report.comparison import write_comparison

    for run in runs:
        if not (run / "config.yaml").exists():
            raise InputError(f"{run} is not the folder of a run: expected what `mesm-train run --out` wrote")
    if len(runs) > 1:
        console.show(write_comparison(runs, out or Path("comparison.html")))
        return
    if out:
        raise InputError("--out names the page of several runs; that of one run is RUN/report.html")
    from mesm_train.runs.evaluate import load_run
    from mesm_train.runs.run import write_report

    try:
        setup = load_run(runs[0], data=data)
    except MesmError as error:
        if data:
            raise
        console.say(f"note: the page is made without the dataset ({error})")
        console.show(page.write_report(runs[0]))
        return
    console.show(write_report(setup, runs[0]))

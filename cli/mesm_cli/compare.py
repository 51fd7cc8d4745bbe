"""mesm-train compare."""

from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_data.errors import InputError


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs that have ended, or of `mesm-train cv`.")
    ],
    metric: Annotated[
        str | None, typer.Option(help="What classes and tests are about: f1, accuracy, balanced_accuracy, mae, …")
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Show the published rows of Dai et al. 2021 too.")] = False,
    form: Annotated[str, typer.Option("--format", help="text, markdown, csv or latex.")] = "text",
    out: Annotated[
        Path | None, typer.Option(help="Also write the tables in all formats, results.json and a figure here.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Of the significance tests; 0: no tests.")] = 10_000,
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="Also show runs of other data, splits or views, and say so.")
    ] = False,
) -> None:
    """Show the test scores of several systems beside each other, with trivial baselines, costs and significance.

    Runs that differ in the seed alone are one system. The first system is the reference of the tests.

    \b
    Examples:
      mesm-train compare runs/iemocap-fe2e runs/iemocap-mesm
      mesm-train compare runs/cv-fe2e runs/cv-mesm --metric f1 --out tables/fe2e-mesm
      mesm-train compare runs/fe2e-paper runs/mesm-paper --paper --format latex
    """
    from mesm_train.analysis.compare import compare as compare_systems
    from mesm_train.analysis.compare_tables import class_table, summary_table
    from mesm_train.analysis.systems import read_systems
    from mesm_train.analysis.tables import FORMATS, render
    from mesm_train.analysis.write_tables import write_comparison

    if form not in FORMATS:
        raise InputError(f"--format {form!r}: expected {', '.join(FORMATS)}")
    systems = read_systems(runs)
    comparison = compare_systems(systems, metric=metric, allow_different=allow_different, resamples=resamples)
    tables = [summary_table(comparison, paper=paper), class_table(comparison, paper=paper)]
    for table in tables:
        console.show(render(table, form))
    if out is not None:
        write_comparison(out, comparison, tables)
        console.say(f"tables, results.json and a figure: {out}")

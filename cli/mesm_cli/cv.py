"""mesm-train cv."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_cli.settings import complete_recipe
from mesm_data.errors import InputError


@console.when_stopped(console.RESUMES)
def cv(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a YAML file.", autocompletion=complete_recipe)],
    folds: Annotated[
        str, typer.Option(help="session or speaker (each is tested once), official, K folds of speakers, or a split.")
    ],
    data: Annotated[str | None, typer.Option(help="The folder or URL of a dataset.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each fold, with successive seeds.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once; each takes the next card.")] = 1,
    ablate: Annotated[
        str | None, typer.Option(help="modalities: each set of text, sound and faces, one table row each.")
    ] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: --set optim.lr=1e-4")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs (default: runs/NAME-cv).")] = None,
) -> None:
    """Cross-validate a recipe: all folds, several seeds, one table of mean ± standard deviation.

    Finished runs are kept: run the same command again to resume.

    \b
    Examples:
      mesm-train cv iemocap-mesm --data /data/iemocap --folds session --seeds 5 --jobs 4
      mesm-train cv iemocap-fe2e --data /data/iemocap --folds speaker --set labels=four --set loss=softmax
      mesm-train cv demo-fe2e --data demo/iemocap-shards --folds 5 --ablate modalities
    """
    from mesm_cli.run import StopFlag
    from mesm_train.analysis.compare_tables import class_table, cv_table
    from mesm_train.analysis.cross_validation import plan_jobs, summarise, write_plan
    from mesm_train.analysis.schedule import check_runs, run_all
    from mesm_train.analysis.tables import render
    from mesm_train.analysis.write_tables import write_comparison
    from mesm_train.config.recipe_files import load_recipe
    from mesm_train.training.progress import BarLogger, LineLogger

    if ablate not in (None, "modalities"):
        raise InputError(f"--ablate {ablate!r}: expected modalities")
    config = load_recipe(recipe, [*(sets or ()), *([f"data={json.dumps(data)}"] if data else [])])
    place = out or Path("runs") / f"{config.name}-cv"
    planned = plan_jobs(config, folds, seeds, ablate_modalities=ablate is not None)
    configs = {job.path: job.config for job in planned}
    check_runs(configs, place)  # before the plan is replaced
    write_plan(place, folds, planned)
    logger = BarLogger() if sys.stderr.isatty() else LineLogger()
    if not run_all(configs, place, jobs=jobs, stop=StopFlag(), logger=logger):
        raise console.Stopped
    comparison = summarise(place)
    tables = [cv_table(comparison), class_table(comparison)]
    for table in tables:
        console.show(render(table, "text"))
    write_comparison(place, comparison, tables)
    console.say(f"tables, results.json and a figure: {place}")

"""mesm-train tune."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_cli.settings import complete_recipe


@console.when_stopped(console.RESUMES)
def tune(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a YAML file.", autocompletion=complete_recipe)],
    space: Annotated[
        Path, typer.Option(help="A YAML file: optim.lr: {log: [1e-5, 1e-3]}, model.layers: {int: [1, 6]}")
    ],
    trials: Annotated[int, typer.Option(min=1, help="The budget: so many runs.")],
    data: Annotated[str | None, typer.Option(help="The folder or URL of a dataset.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: --set split=session-5")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the search (default: runs/NAME-tune).")] = None,
) -> None:
    """Search for settings by validation scores; the test part is never scored.

    Finished trials are kept: run the same command again to resume, or with more --trials to extend the search.

    \b
    Example:
      mesm-train tune iemocap-fe2e --data /data/iemocap --space space.yaml --trials 30 --out runs/tune
      mesm-train cv runs/tune/best.yaml --data /data/iemocap --folds session --seeds 5
    """
    from mesm_cli.run import StopFlag
    from mesm_train.analysis.tables import Table, render
    from mesm_train.analysis.tune import best_trial, read_space
    from mesm_train.analysis.tune import tune as search
    from mesm_train.config.recipe_files import load_recipe
    from mesm_train.training.progress import BarLogger, LineLogger

    config = load_recipe(recipe, [*(sets or ()), *([f"data={json.dumps(data)}"] if data else [])])
    place, ranges = out or Path("runs") / f"{config.name}-tune", read_space(space)
    logger = BarLogger() if sys.stderr.isatty() else LineLogger()
    done = search(config, ranges, place, trials=trials, stop=StopFlag(), logger=logger)
    if done is None:
        raise console.Stopped
    rows = [
        (f"{trial.number:04}", "diverged" if trial.score is None else f"{trial.score:.4f}",
         *(f"{trial.settings[key]:.4g}" if isinstance(trial.settings[key], float) else str(trial.settings[key])
           for key in ranges))
        for trial in sorted(done, key=lambda trial: -float("inf") if trial.score is None else trial.score, reverse=True)
    ]  # fmt: skip
    by = config.eval.select_by
    title = f"validation {by}{', negated' * (by in ('loss', 'mae'))}: {len(done)} trials, the best first"
    console.show(render(Table(title=title, head=("trial", "score", *ranges), rows=rows), "text"))
    console.say(f"best: trial {best_trial(done).number:04}; its recipe: {place / 'best.yaml'}")

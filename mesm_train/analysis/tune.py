"""A search for settings on the validation part alone: a declared space, a declared number of trials, resumable.

    OUT/tune.json       the space, the budget, and each trial's settings and validation score
    OUT/trials/0000/    each a run like any other, with eval.test=false: no trial sees the test part
    OUT/best.yaml       the recipe with the best settings, for `mesm-train run` and `mesm-train cv`

Optuna's TPE sampler proposes settings (Bergstra et al. 2011). A trial depends on the seed and on the trials before it,
so a resumed search gives the same result as an uninterrupted one.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesm_data.errors import InputError, MesmError
from mesm_data.storage.files import atomic_write, open_regular_file
from mesm_data.storage.json_files import write_json
from mesm_data.storage.json_shapes import MapOf, read_checked_json
from mesm_train.config.core_yaml import load_yaml
from mesm_train.config.settings import RunConfig
from mesm_train.config.typed_yaml import dump, parse, to_dict
from mesm_train.runs.run import start_run
from mesm_train.training.checkpoint import best_checkpoints
from mesm_train.training.progress import RunLogger
from mesm_train.training.provenance import flatten

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

KINDS = "log: [low, high], uniform: [low, high], int: [low, high] or choice: [a, b, …]"
TUNE = {
    "space": MapOf({}),
    "trials": int,
    "seed": int,
    "recipe": {},
    "done": [{"number": int, "settings": {}, "score": (int, float, type(None))}],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Settings by dotted key, and the best validation score with them; None if training diverged."""

    number: int
    settings: Mapping[str, Any]
    score: float | None


def read_space(path: Path) -> dict[str, dict[str, list[Any]]]:
    """The space in a YAML file: by dotted setting one of KINDS. Raises InputError that names the setting."""
    try:
        with open_regular_file(path) as file:
            return check_space(load_yaml(file, str(path)), str(path))
    except OSError as error:
        raise InputError(f"--space {path} cannot be read ({error.strerror})") from None


def check_space(space: Any, name: str) -> dict[str, dict[str, list[Any]]]:
    """The space, if it is one; see `read_space`."""
    if not isinstance(space, dict) or not space:
        raise InputError(f"{name}: expected settings with ranges, such as optim.lr: {{log: [1e-5, 1e-3]}}")
    for key, entry in space.items():
        kind, values = next(iter(entry.items())) if isinstance(entry, dict) and len(entry) == 1 else (None, None)
        if kind not in ("log", "uniform", "int", "choice") or not isinstance(values, list) or len(values) < 2:
            raise InputError(f"{name}: {key}: expected {KINDS}")
        if kind == "choice":
            continue
        number = int if kind == "int" else (int, float)
        ordered = len(values) == 2 and all(isinstance(value, number) for value in values) and values[0] < values[1]
        if not ordered or (kind == "log" and values[0] <= 0):
            above = ", above 0" * (kind == "log")
            raise InputError(f"{name}: {key}: {kind} needs two numbers{above}, the lower one first")
    return space


def tune(
    config: RunConfig,
    space: Mapping[str, Mapping[str, list[Any]]],
    out: Path,
    *,
    trials: int,
    stop: Callable[[], bool],
    logger: RunLogger,
) -> list[Trial] | None:
    """Train `trials` variants of a recipe in OUT and write OUT/best.yaml.

    Args:
        config: The recipe; its eval.select_by is what is maximised (a loss or an error is minimised), and its seed is
            also that of the search.
        space: See `read_space`.
        out: The folder of the search.
        trials: The budget.
        stop: Asks the trial under way to save and end.
        logger: Shows the progress.

    Returns:
        All trials, or None if `stop()` ended the search; the same call resumes it.

    Raises:
        InputError: eval.select_by is last, OUT holds another search, Optuna is missing, or the space names a setting
            that there is not.
    """
    if config.eval.select_by == "last":
        raise InputError("eval.select_by last is no score: a search needs one, such as --set eval.select_by=loss")
    base = replace(config, eval=replace(config.eval, test=False))
    for key, entry in space.items():  # refuses unknown settings before anything is trained
        with_settings(base, {key: entry[next(iter(entry))][0]})
    recipe = dict(flatten(to_dict(base)))
    done = _read(out, space, trials, config.seed, recipe)
    for number in range(len(done), trials):
        if stop():
            return None
        settings = suggest(space, done, config.seed)
        run = out / "trials" / f"{number:04}"
        logger.say(f"trial {number + 1} of {trials}: {json.dumps(settings)}")
        try:
            if not start_run(with_settings(base, settings), run, resume=True, stop=stop, logger=logger):
                return None
            score: float | None = best_checkpoints(run / "checkpoints")[0]["score"]
        except MesmError:
            if not (run / "diverged.json").exists():
                raise
            score = None
        done.append(Trial(number=number, settings=settings, score=score))
        _write(out, space, trials, config.seed, recipe, done)
    best = best_trial(done)
    chosen = replace(with_settings(base, best.settings), eval=config.eval)
    with atomic_write(out / "best.yaml") as file:
        file.write(dump(chosen).encode())
    return done


def best_trial(trials: list[Trial]) -> Trial:
    """The trial with the highest score, of equals the first. Raises MesmError if all diverged."""
    scored = [(trial.score, trial) for trial in trials if trial.score is not None]
    if not scored:
        raise MesmError("training diverged in every trial: choose another space")
    return max(scored, key=lambda pair: pair[0])[1]


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """A recipe with other values of some settings. Raises InputError that names one that cannot be."""
    return parse(RunConfig, dump(config), "recipe", [f"{key}={json.dumps(value)}" for key, value in settings.items()])


def suggest(space: Mapping[str, Mapping[str, list[Any]]], done: list[Trial], seed: int) -> dict[str, Any]:
    """The settings of the next trial: a function of the space, the trials before it and the seed."""
    try:
        import optuna
    except ImportError:
        raise InputError("`mesm-train tune` needs Optuna: pip install 'mesm[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(entry) for key, entry in space.items()}
    sampler = optuna.samplers.TPESampler(seed=(seed * 100_003 + len(done)) % 2**32)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    worst = min((trial.score for trial in done if trial.score is not None), default=0.0)
    for trial in done:
        score = worst if trial.score is None else trial.score
        settings = dict(trial.settings)
        study.add_trial(optuna.trial.create_trial(params=settings, distributions=distributions, value=score))
    return dict(study.ask(distributions).params)


def _distribution(entry: Mapping[str, list[Any]]) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    [(kind, values)] = entry.items()
    if kind == "choice":
        return CategoricalDistribution(values)
    if kind == "int":
        return IntDistribution(values[0], values[1])
    return FloatDistribution(float(values[0]), float(values[1]), log=kind == "log")


def _read(out: Path, space: Any, trials: int, seed: int, recipe: dict[str, Any]) -> list[Trial]:
    path = out / "tune.json"
    if not path.exists():
        if out.exists() and any(out.iterdir()):
            raise InputError(f"--out {out} holds other things: give a new or an empty folder")
        _write(out, space, trials, seed, recipe, [])
        return []
    before = read_checked_json(path, TUNE)
    for what, now in (("space", space), ("seed", seed), ("recipe", recipe)):
        if before[what] != json.loads(json.dumps(now)):
            raise InputError(f"{out} holds a search with another {what}: give the same one to go on, or another --out")
    return [Trial(**trial) for trial in before["done"][:trials]]


def _write(out: Path, space: Any, trials: int, seed: int, recipe: dict[str, Any], done: list[Trial]) -> None:
    content = [{"number": trial.number, "settings": trial.settings, "score": trial.score} for trial in done]
    write_json(out / "tune.json", {"space": space, "trials": trials, "seed": seed, "recipe": recipe, "done": content})

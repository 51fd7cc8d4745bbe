"""A search sees the validation part alone, is the same when it was stopped, and says what of a space cannot be."""

import json
from pathlib import Path

import pytest
from small_runs import small_recipe, train_small

from mesm_data.errors import InputError, MesmError
from mesm_train.analysis.tune import Trial, best_trial, check_space, suggest, tune
from mesm_train.config.recipe_files import load_recipe
from mesm_train.report.comparison import write_comparison
from mesm_train.runs.evaluate import evaluate
from mesm_train.training.checkpoint import best_checkpoints
from mesm_train.training.progress import NullLogger

pytest.importorskip("optuna")
SPACE = {"optim.lr": {"log": [1e-4, 1e-1]}, "optim.batch": {"choice": [4, 8]}, "model.dropout": {"uniform": [0.0, 0.5]}}


def test_a_search_resumes_exactly_and_never_uses_the_test_part(tmp_path: Path, dataset: Path) -> None:
    config = load_recipe(str(small_recipe(tmp_path, dataset)), ["optim.epochs=1"])
    whole = tune(config, SPACE, tmp_path / "whole", trials=3, stop=lambda: False, logger=NullLogger())
    assert whole is not None
    calls = iter(range(1000))
    assert tune(config, SPACE, tmp_path / "two", trials=3, stop=lambda: next(calls) > 3, logger=NullLogger()) is None
    assert tune(config, SPACE, tmp_path / "two", trials=3, stop=lambda: False, logger=NullLogger()) == whole
    for trial in whole:
        run = tmp_path / "whole" / "trials" / f"{trial.number:04}"
        assert trial.score == best_checkpoints(run / "checkpoints")[0]["score"]
        assert not (run / "predictions-test.parquet").exists()
        assert json.loads((run / "results.json").read_text())["scores"].keys() == {"valid"}
        assert evaluate(run, part="valid").before is not None
        with pytest.raises(InputError, match=r"eval\.test=false, which leaves out its test part: give --split valid"):
            evaluate(run, part="test")
        with pytest.raises(InputError, match=r"eval\.test=false: it has no scores of the test part"):
            write_comparison([run, run], tmp_path / "page.html")
    best = load_recipe(str(tmp_path / "whole" / "best.yaml"))
    assert best.optim.lr == best_trial(whole).settings["optim.lr"]
    assert best.eval.test
    with pytest.raises(InputError, match="holds a search with another space"):
        tune(
            config,
            {"optim.lr": SPACE["optim.lr"]},
            tmp_path / "whole",
            trials=3,
            stop=lambda: False,
            logger=NullLogger(),
        )
    with pytest.raises(InputError, match=r"optim\.rate=1: there is no such setting"):
        tune(config, {"optim.rate": {"log": [1, 2]}}, tmp_path / "x", trials=1, stop=lambda: False, logger=NullLogger())


def test_the_last_epoch_is_kept_without_a_choice_and_is_no_score_of_a_search(tmp_path: Path, dataset: Path) -> None:
    recipe, run = small_recipe(tmp_path, dataset), tmp_path / "run"
    config = train_small(recipe, run, "eval.select_by=last", "optim.patience=1", "optim.epochs=3")
    assert [kept["score"] for kept in best_checkpoints(run / "checkpoints")] == [2]
    assert json.loads((run / "thresholds.json").read_text())["epoch"] == 2
    with pytest.raises(InputError, match=r"eval\.select_by last is no score: .* --set eval\.select_by=loss"):
        tune(config, SPACE, tmp_path / "search", trials=1, stop=lambda: False, logger=NullLogger())


def test_proposals_concentrate_on_good_settings() -> None:
    """Of 40 trials scored by the distance from 1e-2, the later ones are nearer than the first ten."""
    import math

    space, done = {"optim.lr": {"log": [1e-5, 1e-1]}}, list[Trial]()
    for number in range(40):
        settings = suggest(space, done, seed=1)
        score = -abs(math.log10(settings["optim.lr"]) + 2)
        done.append(Trial(number=number, settings=settings, score=score if number != 3 else None))
    first, last = ([trial.score for trial in some if trial.score is not None] for some in (done[:10], done[-10:]))
    assert sum(last) / len(last) > sum(first) / len(first)
    assert suggest(space, done[:7], seed=1) == done[7].settings


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ({}, "settings with ranges"),
        ({"optim.lr": [1, 2]}, "optim.lr: expected log"),
        ({"optim.lr": {"log": [0, 1]}}, "log needs two numbers, above 0, the lower one first"),
        ({"model.layers": {"int": [1.5, 2]}}, "int needs two numbers"),
        ({"optim.batch": {"choice": [4]}}, "optim.batch: expected log"),
        ({"optim.lr": {"normal": [0, 1]}}, "optim.lr: expected log"),
    ],
)
def test_an_invalid_search_space_is_refused_by_name(space: object, problem: str) -> None:
    with pytest.raises(InputError, match=f"space.yaml: .*{problem}"):
        check_space(space, "space.yaml")


def test_a_search_in_which_all_trials_diverge_is_reported() -> None:
    with pytest.raises(MesmError, match="diverged in every trial"):
        best_trial([Trial(number=0, settings={}, score=None)])

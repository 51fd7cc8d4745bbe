"""Runs that predict numbers stand side by side: their scores, intervals of the same resamples, and each number."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_runs import small_recipe, train_small

from mesm_data.errors import InputError
from mesm_train.evaluation.number_scores import number_scores
from mesm_train.report.comparison import write_comparison
from mesm_train.report.figures import Curve, curves
from mesm_train.report.number_predictions import OF_MOMENTS, resample_numbers
from mesm_train.report.predictions import draws
from mesm_train.report.record import read_record


@pytest.fixture(scope="module")
def runs(dataset: Path, once: Callable[[str, Callable[[Path], None]], Path]) -> tuple[Path, Path, Path]:
    """Two runs of valence, activation and dominance with other seeds, and one of classes."""

    def make(folder: Path) -> None:
        folder.mkdir()
        recipe = small_recipe(folder, dataset)
        for name, *sets in (
            ("a", "labels=dimensions"),
            ("b", "labels=dimensions", "seed=1"),
            ("classes", "labels=six"),
        ):
            train_small(recipe, folder / name, *sets)

    folder = once("number-runs", make)
    return folder / "a", folder / "b", folder / "classes"


def test_a_negative_concordance_is_on_the_axis_and_f1_begins_at_zero() -> None:
    for task, metric, values in (("number", "ccc", [-0.62, -0.2, 0.3]), ("binary", "f1", [0.2, 0.3, 0.4])):
        metrics = [{"task": task, "mean": {metric: value}, "baselines": {}} for value in values]
        valid = [{"step": step, "loss": 1.0, "metrics": each} for step, each in enumerate(metrics, 1)]
        train = [{"step": step, "loss": 1.0, "lr": 1e-3} for step in range(1, 4)]
        svg = curves([Curve(name="run", train=train, valid=valid, best_step=3)])
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
        assert ("−0.6" in texts) == any(text.startswith("−") for text in texts) == (task == "number")
        assert ("Validation CCC; dashed: any constant" in texts) == (task == "number")


def test_the_report_of_numbers_speaks_of_numbers(runs: tuple[Path, Path, Path], dataset: Path, tmp_path: Path) -> None:
    page = (runs[0] / "report.html").read_text()
    assert "thresholds are chosen" not in page
    assert "false / true" not in page
    sets = ("labels=six+dimensions", "loss=bce+mae", "optim.epochs=1", "report.media=true")
    train_small(small_recipe(tmp_path, dataset), tmp_path / "run", *sets)
    page = " ".join((tmp_path / "run" / "report.html").read_text().split())
    assert "thresholds are chosen" in page
    assert "false / true" in page
    table = pq.read_table(tmp_path / "run" / "predictions-test.parquet").to_pandas()
    column = "dimensions.valence"
    rows = zip(table[f"prediction_{column}"], table[f"target_{column}"], strict=True)
    cells = [f'<td class="">{answer:.6g}</td> <td class="">{true:.6g}</td>' for answer, true in rows]
    assert f'<th scope="row">{column}</th>' in page
    assert any(each in page for each in cells)


def test_the_page_has_the_recorded_scores_of_both_and_their_difference(
    runs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    page = write_comparison(runs[:2], tmp_path / "page.html").read_text()
    records = [read_record(run) for run in runs[:2]]
    for record in records:
        assert record.test is not None
        for metric in ("ccc", "pearson", "mae"):
            value = record.test["metrics"]["mean"][metric]
            assert ("–" if value is None else f"{value:.3f}") in page
        for name, scores in record.test["metrics"]["numbers"].items():
            assert name in page
            assert scores["ccc"] is None or f"{scores['ccc']:.3f}" in page
    assert "always the median" in page
    assert "any<br>constant" in page
    assert "Not comparable" not in page
    first, second = (resample_numbers(record.numbers).mean("mae") for record in records if record.numbers)
    low, high = np.quantile(second - first, [0.025, 0.975])
    assert f"{low:+.3f} to {high:+.3f}" in page
    same = write_comparison([runs[0]] * 2, tmp_path / "same.html").read_text()
    assert "+0.000 <small>+0.000 to +0.000</small>" in same


def test_resampled_scores_are_those_of_the_drawn_utterances(runs: tuple[Path, Path, Path]) -> None:
    """Against number_scores on the utterances, each as often as it was drawn."""
    import pyarrow.parquet as pq

    record = read_record(runs[0])
    assert record.numbers is not None
    drawn, names = resample_numbers(record.numbers), record.primary_classes
    table = pq.read_table(runs[0] / "predictions-test.parquet")
    predicted, target = (
        np.stack([table[f"{what}_{name}"] for name in names], axis=1) for what in ("prediction", "target")
    )
    for number, counts in zip(range(20), next(draws(len(target), 0)), strict=False):
        rows = np.repeat(np.arange(len(target)), counts.astype(int))
        again = number_scores(predicted[rows], target[rows], names)["numbers"]
        for metric in OF_MOMENTS:
            values = drawn.classes[metric][number]
            expected = [again[name][metric] for name in names]
            assert values == pytest.approx([np.nan if x is None else x for x in expected], nan_ok=True, rel=1e-4)


def test_numbers_and_classes_do_not_stand_side_by_side(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a predicts numbers and others predict classes"):
        write_comparison([runs[2], runs[0]], tmp_path / "page.html")

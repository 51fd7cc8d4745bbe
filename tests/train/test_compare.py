"""A comparison says what each system scored, and refuses or marks what does not belong beside it."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_runs import small_recipe, train_small

from mesm_data.errors import InputError, MesmError
from mesm_data.storage.json_files import read_json, write_json
from mesm_train.analysis.compare import compare
from mesm_train.analysis.compare_tables import class_table, summary_table
from mesm_train.analysis.published import PUBLISHED
from mesm_train.analysis.run_records import METRICS, RunRecord
from mesm_train.analysis.systems import read_systems
from mesm_train.analysis.tables import Table, render
from mesm_train.analysis.write_tables import write_comparison
from mesm_train.report.comparison import write_comparison as write_page
from mesm_train.runs.evaluate import evaluate


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    return small_recipe(tmp_path_factory.mktemp("compare"), dataset)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, recipe: Path) -> Path:
    """bce with two seeds, softmax with two seeds, another view, numbers."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        train_small(recipe, folder / f"bce-{seed}", f"seed={seed}")
        train_small(recipe, folder / f"softmax-{seed}", f"seed={seed}", "loss=softmax", "name=softmax")
    train_small(recipe, folder / "four", "labels=four", "sampler=class-balanced")
    train_small(recipe, folder / "numbers", "labels=dimensions+six", "loss=ccc+focal", "optim.epochs=1")
    return folder


def test_runs_that_differ_in_the_seed_alone_are_one_system(runs: Path) -> None:
    systems = read_systems([runs / name for name in ("bce-0", "softmax-0", "bce-1", "softmax-1")])
    assert [(system.name, system.seeds) for system in systems] == [("small", (0, 1)), ("softmax", (0, 1))]
    comparison = compare(systems, resamples=200)
    scores = [RunRecord.read(runs / f"bce-{seed}").scores for seed in (0, 1)]
    estimate = systems[0].estimate("f1")
    assert estimate.mean == pytest.approx((scores[0]["mean"]["f1"] + scores[1]["mean"]["f1"]) / 2)
    accuracy = systems[1].estimate("multiclass_accuracy").mean
    softmax = [RunRecord.read(runs / f"softmax-{seed}").scores["multiclass"]["accuracy"] for seed in (0, 1)]
    assert accuracy == pytest.approx(sum(softmax) / 2)
    [(name, (difference, p))] = comparison.tests.items()
    assert name == "softmax"
    assert difference.value == pytest.approx((systems[1].estimate("f1").mean or 0) - (estimate.mean or 0))
    assert 0 < p <= 1
    pairs = comparison.pairs(systems[1])
    by_seed = [after.value("f1") - before.value("f1") for before, after in zip(*(s.runs for s in systems), strict=True)]
    assert pairs is not None
    assert (pairs.mean, pairs.count) == (pytest.approx(np.mean(by_seed)), 2)
    assert pairs.sd == pytest.approx(np.std(by_seed, ddof=1))
    assert pairs.better == sum(difference > 0 for difference in by_seed)
    assert comparison.pairs(systems[0]) is None
    text = render(summary_table(comparison), "text")
    assert "always yes" in text
    assert "SYNTHETIC" in text
    table = summary_table(comparison)
    for column in ("runs", "pooled", "M MAC", "Δ", "p", "Δ runs"):  # each has a sentence that says how to read it
        assert any(head.startswith(column) for head in table.head)
        assert any(re.search(rf"(^|[ .]){column}:", note) for note in table.notes)
    for metric in comparison.metrics:
        assert any(note.startswith(METRICS[metric].title) for note in table.notes)
    assert f"{scores[0]['baselines']['always_yes']['f1']:.3f}" in text
    classes = class_table(comparison)
    assert classes.head == ("system", "ang", "exc", "fru", "hap", "neu", "sad", "mean")


def test_a_difference_between_single_seeds_is_said_to_be_one(runs: Path) -> None:
    def said(*names: str) -> list[str]:
        notes = summary_table(compare(read_systems([runs / name for name in names]), resamples=50)).notes
        return [note for note in notes if note.startswith("ONE SEED")]

    assert not said("bce-0", "bce-1", "softmax-0", "softmax-1")
    [sentence] = said("bce-0", "bce-1", "softmax-0")
    assert sentence.startswith("ONE SEED: softmax-0. ")
    assert not said("bce-0")  # nothing is tested


def test_other_data_splits_and_views_are_compared_only_on_request_and_marked(runs: Path, tmp_path: Path) -> None:
    systems = read_systems([runs / "bce-0", runs / "four"])
    with pytest.raises(InputError, match=r"four has another label view\. --allow-different"):
        compare(systems)
    comparison = compare(systems, allow_different=True, resamples=100)
    assert not comparison.tests
    table = summary_table(comparison)
    assert [row[0] for row in table.rows[:2]] == ["bce-0", "four *"]
    assert any("NOT COMPARABLE: four has another label view" in note for note in table.notes)
    with pytest.raises(InputError, match="two runs have the same settings, split and seed"):
        read_systems([runs / "bce-0", runs / "bce-0"])
    with pytest.raises(InputError, match="is not a run"):
        read_systems([tmp_path])
    with pytest.raises(InputError, match="metric 'mae': these runs have f1, accuracy"):
        compare(systems[:1], metric="mae")
    (tmp_path / "provenance.json").write_bytes((runs / "bce-0" / "provenance.json").read_bytes())
    with pytest.raises(MesmError, match=r"has no results.json yet"):
        read_systems([tmp_path])


def test_a_further_label_view_is_no_difference_but_the_utterances_that_it_leaves_out_are(
    runs: Path, tmp_path: Path
) -> None:
    other = tmp_path / "more-views"
    shutil.copytree(runs / "bce-1", other)
    provenance = json.loads((other / "provenance.json").read_text())
    provenance["labels"]["view"] = "six+dimensions"
    (other / "provenance.json").write_text(json.dumps(provenance))
    folders = [runs / "softmax-0", other]
    assert len(compare(read_systems(folders), resamples=50).tests) == 1
    assert "Not comparable" not in write_page(folders, tmp_path / "page.html").read_text()
    predictions = pq.read_table(other / "predictions-test.parquet")
    pq.write_table(predictions.slice(1), other / "predictions-test.parquet")
    with pytest.raises(InputError, match=r"more-views has other test utterances\. --allow-different"):
        compare(read_systems(folders))
    comparison = compare(read_systems(folders), allow_different=True, resamples=50)
    assert not comparison.tests
    assert any(
        "NOT COMPARABLE: more-views has other test utterances" in note for note in summary_table(comparison).notes
    )
    page = write_page(folders, tmp_path / "page.html").read_text()
    assert "Not comparable: more-views has other test utterances than softmax-0." in page


def test_a_difference_over_fewer_seeds_than_the_pooled_scores_says_so(runs: Path) -> None:
    systems = read_systems([runs / name for name in ("bce-0", "bce-1", "softmax-0")])
    comparison = compare(systems, resamples=50)
    [(name, (difference, _))] = comparison.tests.items()
    [first_seed, _] = [run.value("f1") or 0 for run in systems[0].runs]
    assert difference.value == pytest.approx((systems[1].estimate("f1").mean or 0) - first_seed)
    says = f"small has 2 seeds and {name} 1: Δ and p of {name} take the first 1 of each"
    assert any(says in note for note in summary_table(comparison).notes)
    assert not any("seeds and" in note for note in summary_table(compare(systems[:1])).notes)


def test_classes_that_are_not_in_alphabetical_order_keep_their_thresholds(runs: Path, tmp_path: Path) -> None:
    original, renamed = (shutil.copytree(runs / "bce-0", tmp_path / name) for name in ("original", "renamed"))
    for run in (original, renamed):  # only the first class is always true
        thresholds = read_json(run / "thresholds.json")
        write_json(run / "thresholds.json", {**thresholds, "thresholds": [0.001, *[0.999] * 5]})
    for name in ("provenance.json", "results.json", "thresholds.json"):
        write_json(renamed / name, json.loads((renamed / name).read_text().replace('"ang"', '"zorn"')))
    table = pq.read_table(renamed / "predictions-test.parquet")
    names = [name.replace("_ang", "_zorn") for name in table.column_names]
    pq.write_table(table.rename_columns(names), renamed / "predictions-test.parquet")
    before, after = (RunRecord.read(run) for run in (original, renamed))
    assert after.outputs == ("zorn", "exc", "fru", "hap", "neu", "sad")
    for metric in ("f1", "accuracy", "multiclass_accuracy"):
        assert after.by_output(metric) == before.by_output(metric)


def test_numbers_have_their_own_metrics_and_baselines(runs: Path) -> None:
    comparison = compare(read_systems([runs / "numbers"]))
    assert comparison.metrics == ("ccc", "pearson", "mae")
    text = render(summary_table(comparison), "text")
    assert "always the median" in text
    record = RunRecord.read(runs / "numbers")
    assert record.value("mae") == pytest.approx(record.scores["mean"]["mae"])
    assert record.value("ccc") == pytest.approx(record.scores["mean"]["ccc"])
    assert record.scores["further"]["six"]["task"] == "binary"


def test_predictions_contain_keys_outputs_targets_and_the_fold(runs: Path) -> None:
    table = pq.read_table(runs / "numbers" / "predictions-test.parquet")
    assert {"key", "fold", "prediction_valence", "target_valence", "logit_six.ang", "label_six.ang"} <= set(
        table.column_names
    )
    assert set(table.column("fold").to_pylist()) == {"split"}
    assert all(1 <= value <= 5 for value in table.column("target_valence").to_pylist())
    evaluation = evaluate(runs / "numbers", part="test")
    assert evaluation.scores == evaluation.before


def test_published_rows_follow_a_sentence_about_the_differences(runs: Path) -> None:
    comparison = compare(read_systems([runs / "bce-0"]))
    table = summary_table(comparison, paper=True)
    assert "so not comparable: the data here are synthetic; the split here is split, theirs is paper" in table.notes[-1]
    assert "†: re-run by its authors" in table.notes[-1]
    rows = {row[0]: row for row in table.rows}
    assert "0.588" in rows["FE2E (published)"]
    with pytest.raises(InputError, match="no published rows of iemocap with the label view four"):
        summary_table(compare(read_systems([runs / "four"])), paper=True)


@pytest.mark.parametrize("corpus", PUBLISHED)
def test_the_published_means_are_those_of_the_published_classes(corpus: str) -> None:
    """But for rounding, which guards against a slip of the hand; the table's own MOSEI means included."""
    table = PUBLISHED[corpus]
    for model in table.rows:
        *classes, mean = table.scores(model)
        assert len(classes) == 6
        for index in (0, 1):
            assert sum(pair[index] for pair in classes) / 6 == pytest.approx(mean[index], abs=0.0011), model


def test_all_files_of_a_comparison_have_the_same_numbers(runs: Path, tmp_path: Path) -> None:
    comparison = compare(read_systems([runs / "bce-0", runs / "softmax-0"]), resamples=50)
    tables = [summary_table(comparison), class_table(comparison)]
    write_comparison(tmp_path, comparison, tables)
    names = {f"{name}.{suffix}" for name in ("table", "classes") for suffix in ("txt", "md", "csv", "tex")}
    assert {path.name for path in tmp_path.iterdir()} == {*names, "results.json", "figure.png"}
    written = list(csv.reader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert [tuple(row) for row in written] == [tables[0].head, *tables[0].rows]
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["schema"] == "mesm-comparison/1"
    [first, second] = content["systems"]
    assert first["metrics"]["f1"]["mean"] == RunRecord.read(runs / "bce-0").scores["mean"]["f1"]
    assert second["p_holm"] == comparison.tests["softmax-0"][1]
    assert first["runs"][0]["by_output"]["f1"].keys() == {"ang", "exc", "fru", "hap", "neu", "sad"}
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_text_of_other_files_cannot_become_markup_of_a_table() -> None:
    table = Table(
        title="a_b", head=("system", "x|y"), rows=[("50 % & more_\\", "1 ± 2"), ("Δ", "5×1")], notes=["<note>"]
    )
    latex = render(table, "latex")
    assert r"50 \% \& more\_\textbackslash{} & 1 $\pm$ 2 \\" in latex
    assert r"$\Delta$ & 5$\times$1 \\" in latex
    assert r"x\|y" in render(table, "markdown")

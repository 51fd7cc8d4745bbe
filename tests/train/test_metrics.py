"""Scores are those of scikit-learn, the floors are those of a constant answer, and nothing divides by zero."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mesm_data.errors import MesmError
from mesm_train.evaluation.metrics import auc, average_precision, decide, evaluate, floor, thresholds

GRID = tuple(step / 20 for step in range(1, 20))
CLASSES = ("ang", "hap", "sad")

# Few different values, so that ties are common; up to saturation of a sigmoid in float32.
logit = st.sampled_from([-40.0, -3.0, -1.0, -0.1, 0.0, 0.2, 1.0, 2.5, 40.0])
rows = st.lists(st.tuples(*[logit] * 3, *[st.booleans()] * 3), max_size=30)


def arrays(items: list[tuple[float, ...]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    table = np.array(items, np.float64).reshape(-1, 6)
    return table[:, :3], table[:, 3:].astype(np.int64)


@settings(max_examples=40)
@given(rows, st.tuples(*[st.sampled_from(GRID)] * 3))
def test_every_score_is_that_of_scikit_learn(items: list[tuple[float, ...]], limits: tuple[float, ...]) -> None:
    """Where scikit-learn defines one; where it warns, ours is None."""
    sklearn = pytest.importorskip("sklearn.metrics")
    logits, labels = arrays(items)
    said = evaluate(logits, labels, limits, CLASSES)
    assert said["n"] == len(items)
    for index, name in enumerate(CLASSES):
        ours, truth, score = said["classes"][name], labels[:, index], logits[:, index]
        answer = decide(score, limits[index])
        positives, negatives = int(truth.sum()), int((1 - truth).sum())
        expected = {
            "accuracy": sklearn.accuracy_score(truth, answer) if items else None,
            "weighted_accuracy": sklearn.balanced_accuracy_score(truth, answer) if positives and negatives else None,
            "f1": sklearn.f1_score(truth, answer, zero_division=0) if positives else None,
            "auc": sklearn.roc_auc_score(truth, score) if positives and negatives else None,
            "average_precision": sklearn.average_precision_score(truth, score) if positives else None,
        }
        assert {metric: ours[metric] for metric in expected} == pytest.approx(expected, abs=1e-12)
        assert ours["support"] == positives


@given(rows)
def test_scores_are_what_their_definitions_count(items: list[tuple[float, ...]]) -> None:
    """Against loops over pairs and utterances that follow the definitions word by word."""
    logits, labels = arrays(items)
    for score, truth in zip(logits.T, labels.T.astype(bool), strict=True):
        wins = [(a > b) + (a == b) / 2 for a in score[truth] for b in score[~truth]]
        assert auc(score, truth) == (pytest.approx(sum(wins) / len(wins)) if wins else None)
        precisions = [truth[score >= least].mean() for least in score[truth]]
        expected = pytest.approx(sum(precisions) / len(precisions)) if precisions else None
        assert average_precision(score, truth) == expected


@given(rows, st.tuples(*[st.sampled_from(GRID)] * 3))
def test_means_leave_out_what_is_undefined_and_say_so(
    items: list[tuple[float, ...]], limits: tuple[float, ...]
) -> None:
    said = evaluate(*arrays(items), limits, CLASSES)
    for metric, mean in said["mean"].items():
        values = {name: said["classes"][name][metric] for name in CLASSES}
        known = [value for value in values.values() if value is not None]
        assert mean == (pytest.approx(np.mean(known)) if known else None)
        assert said["undefined"].get(metric, []) == [name for name, value in values.items() if value is None]
    assert json.loads(json.dumps(said, allow_nan=False)) == said


@given(rows, st.tuples(*[st.sampled_from(GRID)] * 3))
def test_the_floor_is_what_constant_answers_score(items: list[tuple[float, ...]], limits: tuple[float, ...]) -> None:
    _, labels = arrays(items)
    never, always = (np.full(labels.shape, value) for value in (-100.0, 100.0))
    said, no, yes = (evaluate(logits, labels, limits, CLASSES) for logits in (_logits(items), never, always))
    for name in CLASSES:
        assert said["classes"][name]["floor"] == pytest.approx(
            {"accuracy": no["classes"][name]["accuracy"], "f1": yes["classes"][name]["f1"]}
        )
    assert said["floor"] == pytest.approx({"accuracy": no["mean"]["accuracy"], "f1": yes["mean"]["f1"]})


def _logits(items: list[tuple[float, ...]]) -> NDArray[np.float64]:
    return arrays(items)[0]


def test_the_floor_of_the_published_test_part_is_83_percent() -> None:
    """Counts of the paper's IEMOCAP test list; accuracy of always "no", per class and in the mean."""
    counts = {"ang": 234, "exc": 213, "fru": 371, "hap": 135, "neu": 321, "sad": 207}
    accuracies = [floor(np.arange(1481) < count)["accuracy"] for count in counts.values()]
    assert [round(100 * value, 1) for value in accuracies if value] == [84.2, 85.6, 74.9, 90.9, 78.3, 86.0]
    assert round(100 * sum(filter(None, accuracies)) / 6, 1) == 83.3


@given(rows)
def test_a_threshold_is_the_best_of_the_grid_nearest_one_half(items: list[tuple[float, ...]]) -> None:
    logits, labels = arrays(items)
    for truth, score, chosen in zip(labels.T == 1, logits.T, thresholds(logits, labels, GRID), strict=True):
        f1 = dict.fromkeys(GRID, 0.0)
        for limit in GRID:
            answer = decide(score, limit)
            if (answer & truth).any():
                precision, recall = truth[answer].mean(), answer[truth].mean()
                f1[limit] = round(2 * precision * recall / (precision + recall), 9)
        best = [limit for limit in GRID if f1[limit] == max(f1.values())]
        assert chosen == min(best, key=lambda limit: (round(abs(limit - 0.5), 9), limit))


def test_a_class_that_is_never_true_gets_the_middle_threshold() -> None:
    assert thresholds([[1.0], [-1.0]], [[0], [0]], GRID).tolist() == [0.5]


@settings(max_examples=40)
@given(st.lists(st.tuples(*[logit] * 3, st.integers(0, 2)), max_size=30))
def test_single_label_scores_are_those_of_scikit_learn(items: list[tuple[float, ...]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    logits = np.array([item[:3] for item in items]).reshape(-1, 3)
    truth = np.array([int(item[3]) for item in items], np.int64)
    said = evaluate(logits, np.eye(3)[truth], (0.5,) * 3, CLASSES, exclusive=True)["single"]
    answer = logits.argmax(axis=1)
    if not items:
        assert said == {"accuracy": None, "recall": None, "confusion": [[0] * 3] * 3}
        return
    assert said["confusion"] == sklearn.confusion_matrix(truth, answer, labels=[0, 1, 2]).tolist()
    assert said["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, answer))
    present = sorted(set(truth.tolist()))
    assert said["recall"] == pytest.approx(sklearn.recall_score(truth, answer, labels=present, average="macro"))


@given(st.lists(st.sampled_from(GRID), min_size=1), st.floats(-20, 20))
def test_a_decision_is_the_sigmoid_at_or_above_the_limit(limits: list[float], value: float) -> None:
    probability = 1 / (1 + np.exp(-value))
    sure = np.abs(np.array(limits) - probability) > 1e-9
    answers = decide(np.full(len(limits), value), limits)
    assert (answers == (probability >= np.array(limits)))[sure].all()


def test_answers_that_are_not_finite_are_refused() -> None:
    """NaN would compare as "no" and score the floor."""
    with pytest.raises(MesmError, match="1 of 2 utterances is not finite"):
        evaluate([[0.0], [np.nan]], [[1], [0]], [0.5], ("ang",))


def test_mismatched_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="n_classes"):
        evaluate([[0.0], [1.0]], [[1]], [0.5], ("ang",))
    with pytest.raises(ValueError, match="0 or 1"):
        evaluate([[0.0], [1.0]], [[1], [2]], [0.5], ("ang",))
    with pytest.raises(ValueError, match="exactly one label"):
        evaluate([[0.0], [1.0]], [[1], [0]], [0.5], ("ang",), exclusive=True)

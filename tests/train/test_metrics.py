"""Every metric is that of scikit-learn or scipy where they have it, else what its definition counts."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mesm_train.evaluation import metrics
from mesm_train.evaluation.number_scores import number_scores
from mesm_train.evaluation.score_values import best_baseline
from mesm_train.evaluation.scores import binary_scores, multiclass_scores
from mesm_train.evaluation.thresholds import apply_thresholds, choose_thresholds
from mesm_train.evaluation.trivial_baselines import binary_baselines, multiclass_baselines, number_baselines

GRID = tuple(step / 20 for step in range(1, 20))
CLASSES = ("ang", "hap", "sad")

# Few different values, so that ties are common; up to saturation of a sigmoid in float32.
logit = st.sampled_from([-40.0, -3.0, -1.0, -0.1, 0.0, 0.2, 1.0, 2.5, 40.0])
rows = st.lists(st.tuples(*[logit] * 3, *[st.booleans()] * 3), max_size=30)
classes_of = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)
sentiment = st.sampled_from([-3.0, -2.5, -1.0, -0.5, -1 / 3, 0.0, 0.25, 0.5, 1.5, 2.0, 2.5, 3.0])


def arrays(items: list[tuple[float, ...]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    table = np.array(items, np.float64).reshape(-1, 6)
    return table[:, :3], table[:, 3:].astype(np.int64)


@pytest.fixture(scope="module")
def sklearn() -> Any:
    return pytest.importorskip("sklearn.metrics")


@settings(max_examples=50)
@given(classes_of)
def test_scores_of_decisions_equal_those_of_scikit_learn(sklearn: Any, pairs: list[tuple[int, int]]) -> None:
    predicted, truth = (np.array(column) for column in zip(*pairs, strict=True))
    counts = metrics.confusion_matrix(predicted, truth, 4)
    assert counts.tolist() == sklearn.confusion_matrix(truth, predicted, labels=range(4)).tolist()
    present = sorted(set(truth.tolist()))
    expected = {
        "accuracy": sklearn.accuracy_score(truth, predicted),
        "balanced_accuracy": sklearn.recall_score(truth, predicted, labels=present, average="macro"),
        "f1_macro": sklearn.f1_score(truth, predicted, labels=present, average="macro", zero_division=0),
        "f1_weighted": sklearn.f1_score(truth, predicted, average="weighted", zero_division=0),
    }
    assert {name: float(getattr(metrics, name)(counts)) for name in expected} == pytest.approx(expected)
    stacked = np.stack([counts, 2 * counts, np.zeros_like(counts)])
    for name in expected:
        value, doubled, nothing = getattr(metrics, name)(stacked)
        assert value == doubled == pytest.approx(expected[name])
        assert np.isnan(nothing)


@settings(max_examples=50)
@given(rows)
def test_rank_metrics_equal_those_of_scikit_learn_and_of_loops_over_pairs(
    sklearn: Any, items: list[tuple[float, ...]]
) -> None:
    logits, labels = arrays(items)
    for score, truth in zip(logits.T, labels.T.astype(bool), strict=True):
        wins = [(a > b) + (a == b) / 2 for a in score[truth] for b in score[~truth]]
        assert metrics.auc(score, truth) == pytest.approx(sum(wins) / len(wins) if wins else np.nan, nan_ok=True)
        precisions = [truth[score >= least].mean() for least in score[truth]]
        expected = sum(precisions) / len(precisions) if precisions else np.nan
        assert metrics.average_precision(score, truth) == pytest.approx(expected, nan_ok=True)
        if truth.any() and not truth.all():
            assert metrics.auc(score, truth) == pytest.approx(sklearn.roc_auc_score(truth, score))
            assert expected == pytest.approx(sklearn.average_precision_score(truth, score))


@settings(max_examples=40)
@given(rows, st.tuples(*[st.sampled_from(GRID)] * 3))
def test_a_table_of_classes_has_the_scores_of_its_decisions(
    sklearn: Any, items: list[tuple[float, ...]], cuts: tuple[float, ...]
) -> None:
    """Where scikit-learn defines one; where it warns, ours is None, and the mean leaves it out by name."""
    logits, labels = arrays(items)
    table = binary_scores(logits, labels, cuts, CLASSES)
    for index, name in enumerate(CLASSES):
        truth, predicted = labels[:, index], apply_thresholds(logits[:, index], cuts[index])
        positives, negatives = int(truth.sum()), int((1 - truth).sum())
        expected = {
            "support": positives,
            "threshold": cuts[index],
            "accuracy": sklearn.accuracy_score(truth, predicted) if items else None,
            "balanced_accuracy": sklearn.balanced_accuracy_score(truth, predicted) if positives and negatives else None,
            "f1": sklearn.f1_score(truth, predicted, zero_division=0) if positives else None,
            "f1_weighted": sklearn.f1_score(truth, predicted, average="weighted", zero_division=0) if items else None,
        }
        assert {metric: table["classes"][name][metric] for metric in expected} == pytest.approx(expected)
    for metric, mean in table["mean"].items():
        values = {name: table["classes"][name][metric] for name in CLASSES}
        known = [value for value in values.values() if value is not None]
        assert mean == (pytest.approx(np.mean(known)) if known else None)
        assert table["undefined"].get(metric, []) == [name for name, value in values.items() if value is None]


@settings(max_examples=30)
@given(st.lists(st.tuples(*[logit] * 3, st.integers(0, 2)), min_size=1, max_size=30))
def test_a_softmax_predicts_its_most_probable_class(sklearn: Any, items: list[tuple[float, ...]]) -> None:
    logits = np.array([item[:3] for item in items])
    truth = np.array([int(item[3]) for item in items], np.int64)
    table = multiclass_scores(logits, np.eye(3)[truth], CLASSES)
    predicted = logits.argmax(axis=1)
    assert table["multiclass"]["confusion"] == sklearn.confusion_matrix(truth, predicted, labels=[0, 1, 2]).tolist()
    assert table["multiclass"]["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, predicted))
    recalls = [of for name in CLASSES if (of := table["classes"][name])["support"]]
    assert len(recalls) == len(set(truth.tolist()))
    for index, name in enumerate(CLASSES):
        expected = (
            sklearn.f1_score(truth == index, predicted == index, zero_division=0) if (truth == index).any() else None
        )
        assert table["classes"][name]["f1"] == pytest.approx(expected)
        assert table["classes"][name]["threshold"] is None


def test_the_calibration_error_is_0_for_frequencies_and_the_error_rate_for_certain_predictions() -> None:
    truth = np.arange(100) < 30
    assert metrics.ece(np.full(100, 0.3), truth) == pytest.approx(0)
    assert metrics.ece(np.ones(100), truth) == pytest.approx(0.7)
    probability = np.array([0.0, 0.05, 0.15, 0.95, 1.0])
    table = metrics.reliability(probability, [0, 1, 0, 1, 1], bins=10)
    assert table[0].tolist() == [2, 0.025, 0.5]
    assert table[1].tolist() == [1, 0.15, 0]
    assert table[9].tolist() == [2, 0.975, 1]
    assert table[:, 0].sum() == 5
    assert metrics.ece(probability, [0, 1, 0, 1, 1]) == pytest.approx((2 * 0.475 + 0.15 + 2 * 0.025) / 5)


@given(st.lists(st.tuples(sentiment, sentiment), min_size=2, max_size=30))
def test_scores_of_numbers_are_those_of_scipy_scikit_learn_and_their_definitions(
    sklearn: Any, pairs: list[tuple[float, float]]
) -> None:
    stats = pytest.importorskip("scipy.stats")
    prediction, target = (np.array(column) for column in zip(*pairs, strict=True))
    scores = number_scores(prediction[:, None], target[:, None], ["sentiment"])["numbers"]["sentiment"]
    assert scores["mae"] == pytest.approx(sklearn.mean_absolute_error(target, prediction))
    if np.ptp(prediction) and np.ptp(target):
        assert scores["pearson"] == pytest.approx(stats.pearsonr(prediction, target).statistic, abs=1e-9)
        gap = prediction.var() + target.var() + (prediction.mean() - target.mean()) ** 2
        covariance = ((prediction - prediction.mean()) * (target - target.mean())).mean()
        assert scores["ccc"] == pytest.approx(2 * covariance / gap, abs=1e-9)
    else:
        assert scores["pearson"] is None
    if "sentiment" not in scores:
        assert target.min() >= 0 or target.max() <= 0
        return
    expected: dict[str, float | None] = {
        "acc2_negative_nonnegative": sklearn.accuracy_score(target >= 0, prediction >= 0),
        "acc2_negative_positive": sklearn.accuracy_score(target[target != 0] > 0, prediction[target != 0] > 0),
        "f1_negative_positive": sklearn.f1_score(
            target[target != 0] > 0, prediction[target != 0] > 0, average="weighted", zero_division=0
        ),
        "acc7_rint": float((np.round(prediction) == np.round(target)).mean()),
        "acc5_rint": float((np.round(prediction.clip(-2, 2)) == np.round(target.clip(-2, 2))).mean()),
        "acc7_away_from_zero": float(np.mean([away(p) == away(t) for p, t in pairs])),
    }
    assert {name: scores["sentiment"][name] for name in expected} == pytest.approx(expected)


def away(value: float) -> int:
    """The seven classes as the SDK's README states them: 0 < a <= 1 is 1, -1 <= a < 0 is -1, and so on."""
    return next(n for n in (0, 1, 2, 3) if abs(value) <= n) * (1 if value > 0 else -1)


def test_the_two_roundings_and_the_two_acc2_differ_where_their_definitions_do() -> None:
    scores = number_scores([[0.4], [0.5], [-0.1], [-2.0]], [[0.0], [1.0], [1.0], [-2.0]], ["sentiment"])
    sentiment = scores["numbers"]["sentiment"]["sentiment"]
    assert sentiment["acc7_rint"] == 2 / 4  # 0.4 -> 0, 0.5 -> 0
    assert sentiment["acc7_away_from_zero"] == 2 / 4  # 0.4 -> 1, 0.5 -> 1
    assert sentiment["acc2_negative_nonnegative"] == 3 / 4
    assert sentiment["acc2_negative_positive"] == 2 / 3


@given(st.integers(1, 40), st.integers(0, 40))
def test_trivial_baselines_have_the_scores_of_their_decisions(positives: int, negatives: int) -> None:
    truth = np.arange(positives + negatives) < positives
    baselines = binary_baselines(positives, positives + negatives)
    for name, answer in (("always_yes", True), ("always_no", False)):
        counts = metrics.confusion_matrix(np.full(len(truth), answer), truth)
        for metric, value in baselines[name].items():
            expected = {"f1": metrics.f1_binary}.get(metric, getattr(metrics, metric, None))
            assert expected is not None
            assert value == pytest.approx(float(expected(counts)), nan_ok=True)
    share = positives / (positives + negatives)
    assert baselines["always_yes"]["f1"] == pytest.approx(2 * share / (1 + share))
    assert baselines["prior"]["f1"] == pytest.approx(share)
    assert baselines["prior"]["accuracy"] == pytest.approx(share**2 + (1 - share) ** 2)


def test_majority_and_prior_of_iemocap_four_are_the_published_chance_levels() -> None:
    """1708 of 5531 utterances are neutral: accuracy 30.9 %, balanced accuracy 25 % (any prediction without a look)."""
    baselines = multiclass_baselines([1103, 1636, 1708, 1084])
    assert round(100 * baselines["majority"]["accuracy"], 1) == 30.9
    assert baselines["majority"]["balanced_accuracy"] == baselines["prior"]["balanced_accuracy"] == 0.25


def test_the_median_has_the_least_error_of_all_constants_and_no_concordance() -> None:
    target = np.array([-3.0, 0.0, 0.2, 1.0, 3.0])
    baselines = number_baselines(target)
    assert baselines["median"]["mae"] == min(np.abs(target - constant).mean() for constant in np.linspace(-3, 3, 601))
    assert baselines["median"]["ccc"] == baselines["mean"]["ccc"] == 0
    assert best_baseline(baselines, "mae") == baselines["median"]["mae"]


PAPER = {  # the test part: utterances, F1 of always yes by class and in the mean, weighted F1 of always no
    "iemocap": (1481, {"ang": 27.3, "exc": 25.1, "fru": 40.1, "hap": 16.7, "neu": 35.6, "sad": 24.5}, 28.2, 75.8),
    "mosei": (
        4188,
        {"anger": 39.0, "disgust": 30.2, "fear": 16.3, "happiness": 69.3, "sadness": 40.6, "surprise": 17.2},
        35.4,
        67.7,
    ),
}


@pytest.mark.parametrize("corpus", PAPER)
def test_the_trivial_baselines_of_the_papers_test_parts(corpus: str) -> None:
    """Computed from the class counts of the published lists that the corpus' schema has."""
    from mesm_data.schema.built_in import built_in_schema

    total, by_class, mean_f1, weighted = PAPER[corpus]
    part = built_in_schema(corpus).splits["paper"].parts["test"]
    assert part.lines == total
    baselines = {name: binary_baselines(count, total) for name, count in part.labels.items()}
    always_yes = {name: round(100 * of["always_yes"]["f1"], 1) for name, of in baselines.items()}
    assert always_yes == by_class
    assert round(100 * float(np.mean([of["always_yes"]["f1"] for of in baselines.values()])), 1) == mean_f1
    assert round(100 * float(np.mean([of["always_no"]["f1_weighted"] for of in baselines.values()])), 1) == weighted


def test_the_papers_iemocap_test_list_has_the_counts_of_its_baselines(shared: Path) -> None:
    """Where the published list lies beside the repository: its number of utterances."""
    from mesm_data.schema.built_in import built_in_schema

    path = shared / "splits" / "iemocap_test_split.txt"
    if not path.exists():
        pytest.skip("the published lists are not there")
    part = built_in_schema("iemocap").splits["paper"].parts["test"]
    ids = path.read_text().split()
    assert len(ids) == part.lines == sum(part.labels.values())
    assert max(Counter(ids).values()) == 1


@given(rows)
def test_a_threshold_is_the_best_of_the_grid_nearest_one_half(items: list[tuple[float, ...]]) -> None:
    logits, labels = arrays(items)
    for truth, score, chosen in zip(labels.T == 1, logits.T, choose_thresholds(logits, labels, GRID), strict=True):
        f1 = dict.fromkeys(GRID, 0.0)
        for threshold in GRID:
            predicted = apply_thresholds(score, threshold)
            if (predicted & truth).any():
                precision, recall = truth[predicted].mean(), predicted[truth].mean()
                f1[threshold] = round(2 * precision * recall / (precision + recall), 9)
        best = [threshold for threshold in GRID if f1[threshold] == max(f1.values())]
        assert chosen == min(best, key=lambda threshold: (round(abs(threshold - 0.5), 9), threshold))


def test_a_class_that_is_never_true_gets_the_middle_threshold() -> None:
    assert choose_thresholds([[1.0], [-1.0]], [[0], [0]], GRID).tolist() == [0.5]


@given(st.lists(st.sampled_from(GRID), min_size=1), st.floats(-20, 20))
def test_a_decision_is_the_sigmoid_at_or_above_the_threshold(thresholds: list[float], value: float) -> None:
    probability = 1 / (1 + np.exp(-value))
    sure = np.abs(np.array(thresholds) - probability) > 1e-9
    decisions = apply_thresholds(np.full(len(thresholds), value), thresholds)
    assert (decisions == (probability >= np.array(thresholds)))[sure].all()


def test_outputs_that_are_not_finite_are_refused() -> None:
    """NaN would compare as "no" and score the baseline."""
    from mesm_data.errors import MesmError

    score: Callable[[Any], Any]
    for score in (
        lambda values: binary_scores(values, [[1], [0]], [0.5], ("ang",)),
        lambda values: multiclass_scores(values, [[1], [1]], ("ang",)),
        lambda values: number_scores(values, [[1.0], [1.0]], ("valence",)),
    ):
        with pytest.raises(MesmError, match="1 of 2 utterances is not finite"):
            score([[0.0], [np.nan]])


def test_mismatched_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="n_classes"):
        binary_scores([[0.0], [1.0]], [[1]], [0.5], ("ang",))
    with pytest.raises(ValueError, match="0 or 1"):
        binary_scores([[0.0], [1.0]], [[1], [2]], [0.5], ("ang",))
    with pytest.raises(ValueError, match="exactly one label"):
        binary_scores([[0.0], [1.0]], [[1], [0]], [0.5], ("ang",), exclusive=True)
    with pytest.raises(ValueError, match="n_names"):
        number_scores([[0.0], [1.0]], [[1.0]], ("valence",))

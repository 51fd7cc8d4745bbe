"""The tests keep their level where nothing differs, see what differs, and agree with scipy's and by-hand results."""

import numpy as np
import pytest

from mesm_train.analysis.run_records import METRICS
from mesm_train.evaluation.significance import bootstrap_interval, confusion_columns, holm, paired_difference

F1, ACCURACY = METRICS["f1"], METRICS["accuracy"]


def decisions(truth: np.ndarray, error: float, seed: int) -> np.ndarray:  # type: ignore[type-arg]
    flips = np.random.default_rng(seed).random(truth.shape) < error
    return np.asarray(truth ^ flips)


@pytest.fixture
def truth() -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(0).random((200, 3)) < 0.3


def test_a_system_does_not_differ_from_itself(truth: np.ndarray) -> None:  # type: ignore[type-arg]
    columns = confusion_columns(decisions(truth, 0.2, 1), truth)
    difference = paired_difference([columns], [columns], F1, resamples=200)
    assert (difference.value, difference.low, difference.high, difference.p) == (0, 0, 0, 1)


def test_a_clear_difference_is_significant_in_its_direction(truth: np.ndarray) -> None:  # type: ignore[type-arg]
    worse, better = (confusion_columns(decisions(truth, error, 1), truth) for error in (0.4, 0.05))
    difference = paired_difference([worse], [better], F1, resamples=500)
    assert 0 < difference.low < difference.value < difference.high
    assert difference.p == 1 / 501
    other_way = paired_difference([better], [worse], F1, resamples=500)
    assert other_way.value == -difference.value


def test_equal_systems_are_rarely_called_different(truth: np.ndarray) -> None:  # type: ignore[type-arg]
    """Of 60 pairs with the same error rate about 3 fall below .05; 9 or more would be one chance in 500."""
    rejected = 0
    for trial in range(60):
        one, two = (confusion_columns(decisions(truth, 0.25, 2 * trial + n), truth) for n in (0, 1))
        rejected += paired_difference([one], [two], F1, resamples=200, seed=trial).p < 0.05
    assert rejected < 9


def test_randomisation_of_accuracy_is_the_sign_test_of_the_utterances_that_differ() -> None:
    """Where one system alone is right, swapping is a coin: two-sided binomial, 3 against 11 of 14."""
    stats = pytest.importorskip("scipy.stats")
    truth = np.ones((40, 1), bool)
    one, two = np.ones((40, 1), bool), np.ones((40, 1), bool)
    one[:11], two[11:14] = False, False
    difference = paired_difference(
        [confusion_columns(one, truth)], [confusion_columns(two, truth)], ACCURACY, resamples=20_000
    )
    assert difference.value == pytest.approx(8 / 40)
    assert difference.p == pytest.approx(stats.binomtest(3, 14).pvalue, abs=0.01)


def test_the_bootstrap_interval_of_an_accuracy_is_that_of_a_proportion() -> None:
    truth = np.ones((400, 1), bool)
    predicted = (np.arange(400) < 300)[:, None]
    low, high = bootstrap_interval(confusion_columns(predicted, truth), ACCURACY, resamples=4000)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - half, abs=0.006)
    assert high == pytest.approx(0.75 + half, abs=0.006)


def test_several_seeds_are_compared_by_their_mean(truth: np.ndarray) -> None:  # type: ignore[type-arg]
    one, two = ([confusion_columns(decisions(truth, error, seed), truth) for seed in range(3)] for error in (0.3, 0.2))
    difference = paired_difference(one, two, F1, resamples=100)
    means = [np.mean([F1(columns.sum(axis=0)[None])[0] for columns in system]) for system in (one, two)]
    assert difference.value == pytest.approx(means[1] - means[0])


def test_a_score_that_nobody_has_is_no_difference_and_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    never = confusion_columns(np.random.default_rng(0).random((20, 2)) < 0.5, np.zeros((20, 2), bool))
    difference = paired_difference([never], [never], F1, resamples=50)
    assert np.isnan([difference.value, difference.low, difference.high, difference.p]).all()
    assert np.isnan(bootstrap_interval(never, F1, resamples=50)).all()
    assert not recwarn.list


def test_holm_correction_follows_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []

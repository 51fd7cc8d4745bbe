"""Tables of scores of the predictions of numbers, ready for JSON: None where a score is not defined."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mesm_train.evaluation.metrics import (
    Floats,
    acc2_negative_nonnegative,
    acc2_negative_positive,
    accuracy,
    accuracy_rounded,
    ccc,
    f1_weighted,
    mae,
    moments,
    pearson,
)
from mesm_train.evaluation.score_values import (
    Scores,
    check_finite,
    mean_baselines,
    mean_of,
    number_or_none,
    plain_baselines,
)
from mesm_train.evaluation.trivial_baselines import number_baselines

NUMBER_METRICS = ("mae", "pearson", "ccc")
SENTIMENT_LIMIT = 3  # numbers from -3 to 3 with both signs also get the scores of CMU-MOSEI's sentiment


def number_scores(predictions: ArrayLike, targets: ArrayLike, names: Sequence[str]) -> Scores:
    """The scores of numbers.

    Args:
        predictions: (n, n_names), finite, in the units of the labels.
        targets: likewise.
        names: Of the numbers.

    Returns:
        task        "number"
        n           how many utterances
        numbers     by name: the NUMBER_METRICS, baselines (always the mean, always the median), and, of numbers from -3
                    to 3 with both signs, `sentiment` with Acc-2, F1, Acc-5 and Acc-7 in both conventions
        mean        each of the NUMBER_METRICS, over the numbers
        baselines   the means of the numbers' baselines

    Raises:
        MesmError: A prediction is not finite.
    """
    values, truth = np.asarray(predictions, np.float64), np.asarray(targets, np.float64)
    if values.ndim != 2 or values.shape != truth.shape:
        raise ValueError(f"predictions {values.shape} and targets {truth.shape} must both be (n, n_names)")
    check_finite(values)
    numbers = {name: _number(values[:, index], truth[:, index]) for index, name in enumerate(names)}
    return {
        "task": "number",
        "n": len(values),
        "numbers": numbers,
        "mean": {metric: mean_of(of[metric] for of in numbers.values()) for metric in NUMBER_METRICS},
        "baselines": mean_baselines([of["baselines"] for of in numbers.values()]),
    }


def _number(prediction: Floats, target: Floats) -> Scores:
    centre = target.mean() if len(target) else 0.0
    sums = moments(prediction - centre, target - centre).sum(axis=0)
    scores: Scores = {
        name: number_or_none(metric(sums)) for name, metric in zip(NUMBER_METRICS, (mae, pearson, ccc), strict=True)
    }
    scores["baselines"] = plain_baselines(number_baselines(target))
    if len(target) and target.min() < 0 < target.max() and np.abs(target).max() <= SENTIMENT_LIMIT:
        scores["sentiment"] = _sentiment(prediction, target)
    return scores


def _sentiment(prediction: Floats, target: Floats) -> dict[str, float | None]:
    nonnegative = acc2_negative_nonnegative(prediction, target)
    positive = acc2_negative_positive(prediction, target)
    values = {
        "acc2_negative_nonnegative": accuracy(nonnegative),
        "f1_negative_nonnegative": f1_weighted(nonnegative),
        "acc2_negative_positive": accuracy(positive),
        "f1_negative_positive": f1_weighted(positive),
    }
    for classes, limit in ((5, 2), (7, 3)):
        for name, away in (("rint", False), ("away_from_zero", True)):
            counts = accuracy_rounded(prediction, target, limit=limit, away_from_zero=away)
            values[f"acc{classes}_{name}"] = accuracy(counts)
    return {name: number_or_none(value) for name, value in values.items()}

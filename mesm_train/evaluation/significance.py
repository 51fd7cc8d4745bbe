"""Whether two systems differ on the same test utterances: paired bootstrap and approximate randomisation.

Both resample utterances, never folds or seeds: the systems stay as they were trained. A metric is a function of sums
over utterances (a confusion matrix, or moments), so a resampled test part is one row of a matrix product. With several
seeds the statistic is the mean over the seeds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mesm_train.evaluation.metrics import Floats

CHUNK = 500  # resampled test parts at a time: about 60 MB for 15 000 utterances
Metric = Callable[[Floats], Floats]  # sums (r, *shape) to values (r,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Of a metric between two systems, the second minus the first.

    Attributes:
        value: on the test utterances as they are.
        low, high: the 95 % interval of the paired bootstrap (percentiles).
        p: two-sided, of approximate randomisation (Noreen 1989).
    """

    value: float
    low: float
    high: float
    p: float


def paired_difference(
    first: Sequence[Floats], second: Sequence[Floats], metric: Metric, *, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Compare two systems.

    Args:
        first: For each seed, what the utterances add to the sums of the metric, (n, *shape).
        second: Likewise, the same utterances in the same order and as many seeds.
        metric: From the sums (r, *shape) to (r,).
        resamples: Of each kind.
        seed: Of the resampling.

    Returns:
        The difference; all of it NaN if the metric is not defined for both.
    """
    pairs = [(_flat(a), _flat(b)) for a, b in zip(first, second, strict=True)]
    shape = first[0].shape[1:]
    count = len(first[0])

    def value(sums: Sequence[Floats]) -> Floats:
        return np.asarray(np.mean([metric(each.reshape(-1, *shape)) for each in sums], axis=0))

    ones = np.ones((1, count))
    observed = float((value([ones @ b for _, b in pairs]) - value([ones @ a for a, _ in pairs]))[0])
    if math.isnan(observed):  # no resample is defined either, and none would count as a larger difference
        return Difference(value=math.nan, low=math.nan, high=math.nan, p=math.nan)
    random = np.random.default_rng(seed)
    booted, swapped = list[Floats](), list[Floats]()
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        weights = random.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)
        booted.append(value([weights @ b for _, b in pairs]) - value([weights @ a for a, _ in pairs]))
        swap = random.integers(0, 2, (size, count)).astype(np.float64)
        moved = [swap @ (b - a) for a, b in pairs]
        totals = [(ones @ a, ones @ b) for a, b in pairs]
        one = value([a + by for (a, _), by in zip(totals, moved, strict=True)])
        two = value([b - by for (_, b), by in zip(totals, moved, strict=True)])
        swapped.append(two - one)
    low, high = np.nanpercentile(np.concatenate(booted), [2.5, 97.5])
    extreme = np.abs(np.concatenate(swapped)) >= abs(observed) - 1e-12
    return Difference(value=observed, low=float(low), high=float(high), p=float((1 + extreme.sum()) / (1 + resamples)))


def bootstrap_interval(columns: Floats, metric: Metric, *, resamples: int = 2000) -> tuple[float, float]:
    """The 95 % percentile interval of one system's metric over its test utterances; NaN if no resample defines it.

    Args:
        columns: What the utterances add to the sums of the metric, (n, *shape).
        metric: From the sums (r, *shape) to (r,).
        resamples: Of the utterances.
    """
    count, shape = len(columns), columns.shape[1:]
    random, values = np.random.default_rng(0), list[Floats]()
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        weights = random.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)
        values.append(metric((weights @ _flat(columns)).reshape(-1, *shape)))
    together = np.concatenate(values)
    if np.isnan(together).all():
        return math.nan, math.nan
    low, high = np.nanpercentile(together, [2.5, 97.5])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected by Holm's step-down method (1979), in the order they came in."""
    order = np.argsort(p_values, kind="stable")
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def confusion_columns(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Floats:
    """What utterances add to the confusion matrices of yes/no questions, (n, classes, 2, 2).

    Args:
        predicted: (n, classes).
        truth: (n, classes).
    """
    yes, no = np.eye(2)[1], np.eye(2)[0]
    true = np.where(truth[..., None], yes, no)
    answered = np.where(predicted[..., None], yes, no)
    return np.asarray(true[..., :, None] * answered[..., None, :])


def _flat(columns: Floats) -> Floats:
    return np.asarray(columns.reshape(len(columns), -1), np.float64)

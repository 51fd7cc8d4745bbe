"""Metrics as named functions of numpy arrays; docs/metrics.md has their formulas and the other names they go by.

What counts decisions is a function of a confusion matrix: counts (..., k, k), the true class down, the predicted class
across. A yes/no question has k = 2, no before yes. Leading dimensions are tables of their own, so the metrics of ten
thousand resampled test parts are one call. A metric that is not defined is NaN.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

ECE_BINS = 10


def confusion_matrix(predicted: ArrayLike, truth: ArrayLike, n_classes: int = 2) -> Ints:
    """Counts of each pair of a true and a predicted class.

    Args:
        predicted: (n,), class numbers; booleans are the classes 0 and 1.
        truth: likewise.
        n_classes: The number of classes.

    Returns:
        int64 (n_classes, n_classes), the true class down.
    """
    pairs = np.asarray(truth, np.int64) * n_classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def accuracy(counts: ArrayLike) -> Floats:
    """The share of correct decisions. The field of speech emotion calls it WA (weighted accuracy)."""
    table = np.asarray(counts, np.float64)
    return _ratio(_correct(table).sum(-1), table.sum((-2, -1)))


def recall(counts: ArrayLike) -> Floats:
    """The share of each true class that is predicted as such, (..., k); NaN for a class that is nowhere true."""
    table = np.asarray(counts, np.float64)
    return _ratio(_correct(table), table.sum(-1))


def balanced_accuracy(counts: ArrayLike) -> Floats:
    """The mean of the recalls of the classes that are there.

    For yes/no questions (tp * n/p + tn) / 2n, the "weighted accuracy" of papers on CMU-MOSEI; for one label of several
    the "UA" (unweighted accuracy) of speech emotion. A yes/no question with one answer alone has none.
    """
    recalls = recall(counts)
    known = ~np.isnan(recalls)
    needed = 2 if recalls.shape[-1] == 2 else 1
    mean = _ratio(np.where(known, recalls, 0).sum(-1), known.sum(-1))
    return np.where(known.sum(-1) >= needed, mean, np.nan)


def f1_by_class(counts: ArrayLike) -> Floats:
    """2 tp / (2 tp + fp + fn) of each class, (..., k); NaN for a class that is nowhere true."""
    table = np.asarray(counts, np.float64)
    true, predicted = table.sum(-1), table.sum(-2)
    return np.where(true > 0, _ratio(2 * _correct(table), true + predicted), np.nan)


def f1_binary(counts: ArrayLike) -> Floats:
    """F1 of the answer yes to a yes/no question."""
    return np.asarray(f1_by_class(counts)[..., 1])


def f1_macro(counts: ArrayLike) -> Floats:
    """The mean of the classes' F1, over the classes that are there."""
    return mean_of_defined(f1_by_class(counts))


def mean_of_defined(values: ArrayLike) -> Floats:
    """The mean over the last axis of what is not NaN; NaN where nothing is."""
    numbers = np.asarray(values, np.float64)
    known = ~np.isnan(numbers)
    return _ratio(np.where(known, numbers, 0).sum(-1), known.sum(-1))


def f1_weighted(counts: ArrayLike) -> Floats:
    """The mean of the classes' F1, weighted by how often each class is true."""
    table = np.asarray(counts, np.float64)
    return _ratio((table.sum(-1) * np.nan_to_num(f1_by_class(table))).sum(-1), table.sum((-2, -1)))


def auc(scores: ArrayLike, truth: ArrayLike) -> float:
    """The share of pairs (true, false) that the scores (n,) put in order; a tie counts half (Mann and Whitney 1947)."""
    positive = np.asarray(truth, bool)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives * negatives:
        return float("nan")
    _, places, counts = np.unique(np.asarray(scores), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # from 1; the mean rank among equals
    above = float(ranks[positive].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)


def average_precision(scores: ArrayLike, truth: ArrayLike) -> float:
    """The mean, over the true ones, of the precision among all (n,) that score at least as high."""
    positive = np.asarray(truth, bool)
    if not positive.any():
        return float("nan")
    _, places = np.unique(-np.asarray(scores), return_inverse=True)
    retrieved, relevant = (
        np.cumsum(np.bincount(places, weights=weights)) for weights in (np.ones(len(positive)), positive)
    )
    return float((relevant / retrieved)[places][positive].mean())


def reliability(probability: ArrayLike, outcome: ArrayLike, bins: int = ECE_BINS) -> Floats:
    """A reliability diagram: predictions in `bins` bins of equal width, the last one closed.

    Args:
        probability: (n,), what the model gives the outcome.
        outcome: (n,), whether it came true.
        bins: The number of bins.

    Returns:
        (bins, 3): the number of predictions, their mean probability and the share that came true; NaN in empty bins.
    """
    value, true = np.asarray(probability, np.float64), np.asarray(outcome, np.float64)
    place = np.clip((value * bins).astype(np.int64), 0, bins - 1)
    count, total, hits = (np.bincount(place, weights=w, minlength=bins) for w in (np.ones(len(value)), value, true))
    return np.stack([count, _ratio(total, count), _ratio(hits, count)], axis=1)


def ece(probability: ArrayLike, outcome: ArrayLike, bins: int = ECE_BINS) -> float:
    """Expected calibration error (Naeini et al. 2015): the mean gap of `reliability`, weighted by the bins' counts."""
    table = reliability(probability, outcome, bins)
    if not table[:, 0].sum():
        return float("nan")
    gaps = np.nan_to_num(np.abs(table[:, 1] - table[:, 2]))
    return float((table[:, 0] * gaps).sum() / table[:, 0].sum())


def moments(prediction: ArrayLike, target: ArrayLike) -> Floats:
    """Per utterance what MAE, Pearson's r and CCC are made of, (n, 7): 1, p, t, p^2, t^2, pt, |p - t|.

    Their sum, or a weighted sum, over utterances goes into `mae`, `pearson` and `ccc`. The origin is arbitrary, so
    shift large numbers first.
    """
    p, t = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    return np.stack([np.ones_like(p), p, t, p * p, t * t, p * t, np.abs(p - t)], axis=-1)


def mae(sums: ArrayLike) -> Floats:
    """The mean absolute error, from summed `moments` (..., 7)."""
    table = np.asarray(sums, np.float64)
    return _ratio(table[..., 6], table[..., 0])


def pearson(sums: ArrayLike) -> Floats:
    """Pearson's correlation, from summed `moments`; NaN where either side is constant."""
    _, _, variance_p, variance_t, covariance = _central(sums)
    return _ratio(covariance, np.sqrt(variance_p * variance_t))


def ccc(sums: ArrayLike) -> Floats:
    """The concordance correlation (Lin 1989), from summed `moments`: 2 cov / (var + var + (mean - mean)^2)."""
    mean_p, mean_t, variance_p, variance_t, covariance = _central(sums)
    return _ratio(2 * covariance, variance_p + variance_t + (mean_p - mean_t) ** 2)


def acc2_negative_nonnegative(prediction: ArrayLike, target: ArrayLike) -> Ints:
    """The confusion matrix of < 0 against >= 0 on all utterances: Acc-2 before 2019, "Has0"."""
    return confusion_matrix(np.asarray(prediction) >= 0, np.asarray(target) >= 0)


def acc2_negative_positive(prediction: ArrayLike, target: ArrayLike) -> Ints:
    """The confusion matrix of <= 0 against > 0 on utterances whose target is not 0: Acc-2 since 2019, "Non0"."""
    p, t = np.asarray(prediction), np.asarray(target)
    return confusion_matrix(p[t != 0] > 0, t[t != 0] > 0)


def accuracy_rounded(prediction: ArrayLike, target: ArrayLike, *, limit: int, away_from_zero: bool) -> Ints:
    """The confusion matrix of whole numbers from -limit to limit: 3 for Acc-7, 2 for Acc-5.

    Args:
        prediction: (n,).
        target: (n,).
        limit: Both are clipped to -limit .. limit before they are rounded.
        away_from_zero: False: to the nearest, halves to the even one (numpy's), as the published code of most papers
            has it. True: to the next whole number away from 0, as the CMU-MultimodalSDK defines its seven classes.
    """

    def rounded(value: ArrayLike) -> Ints:
        clipped = np.clip(np.asarray(value, np.float64), -limit, limit)
        whole = np.sign(clipped) * np.ceil(np.abs(clipped)) if away_from_zero else np.rint(clipped)
        return whole.astype(np.int64) + limit

    return confusion_matrix(rounded(prediction), rounded(target), 2 * limit + 1)


def _correct(table: Floats) -> Floats:
    return np.diagonal(table, axis1=-2, axis2=-1)


def _central(sums: ArrayLike) -> tuple[Floats, ...]:
    """Means of predictions and targets, their variances and the covariance (divided by n)."""
    table = np.asarray(sums, np.float64)
    mean = [_ratio(table[..., index], table[..., 0]) for index in range(1, 6)]
    mean_p, mean_t, square_p, square_t, product = mean
    # Rounding leaves a constant with a tiny variance, of either sign.
    variance_p, variance_t = (
        _not_tiny(square - m * m, square) for square, m in ((square_p, mean_p), (square_t, mean_t))
    )
    return mean_p, mean_t, variance_p, variance_t, product - mean_p * mean_t


def _not_tiny(variance: Floats, scale: Floats) -> Floats:
    return np.where(variance > 1e-12 * np.abs(scale), variance, 0.0)


def _ratio(above: Any, below: Any) -> Floats:
    """above / below, NaN where below is 0."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    quotient = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=quotient, where=below != 0)
    return quotient

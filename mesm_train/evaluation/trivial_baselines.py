"""What needs no model: the expected scores of predictions that ignore their input.

Each knows the frequencies of the part that it is scored on, so none of its kind can do better there. Values are those
of the metrics in metrics.py; `prior` guesses at random with those frequencies, and has expected scores.
"""

import numpy as np
from numpy.typing import ArrayLike

from mesm_train.evaluation.metrics import Floats, accuracy, balanced_accuracy, f1_binary, f1_macro, f1_weighted

Scores = dict[str, float]


def binary_baselines(positives: int, total: int) -> dict[str, Scores]:
    """Of a yes/no question with so many positives: always_yes, always_no, prior."""
    negatives = total - positives
    share = positives / total if total else float("nan")
    expected = {"always_yes": 1.0, "always_no": 0.0, "prior": share}
    return {name: _binary(np.outer([negatives, positives], [1 - yes, yes])) for name, yes in expected.items()}


def multiclass_baselines(support: ArrayLike) -> dict[str, Scores]:
    """Of one label of several, each so often true, (k,): majority (always the most frequent class), prior."""
    counts = np.asarray(support, np.float64)
    total = counts.sum()
    majority = np.eye(len(counts))[counts.argmax()]
    prior = counts / total if total else counts
    return {name: _multiclass(np.outer(counts, shares)) for name, shares in (("majority", majority), ("prior", prior))}


def number_baselines(target: ArrayLike) -> dict[str, Scores]:
    """Of a number: always the mean, always the median. A constant has the CCC 0, and no Pearson's r."""
    values = np.asarray(target, np.float64)
    if not values.size:
        return {name: {"mae": float("nan"), "ccc": float("nan")} for name in ("mean", "median")}
    constants = {"mean": values.mean(), "median": np.median(values)}
    return {name: {"mae": float(np.abs(values - value).mean()), "ccc": 0.0} for name, value in constants.items()}


def _binary(counts: Floats) -> Scores:
    metrics = {
        "accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "f1": f1_binary, "f1_weighted": f1_weighted
    }  # fmt: skip
    return {name: float(metric(counts)) for name, metric in metrics.items()}


def _multiclass(counts: Floats) -> Scores:
    metrics = {
        "accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "f1_macro": f1_macro, "f1_weighted": f1_weighted
    }  # fmt: skip
    return {name: float(metric(counts)) for name, metric in metrics.items()}

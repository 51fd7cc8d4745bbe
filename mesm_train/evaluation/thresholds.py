"""Thresholds of yes/no questions: chosen on the validation part, applied everywhere else."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mesm_train.evaluation.metrics import Bools, Floats, confusion_matrix, f1_binary


def choose_thresholds(logits: ArrayLike, labels: ArrayLike, grid: Sequence[float]) -> Floats:
    """The threshold of each class, (n_classes,): of those in `grid` the one with the best F1 on these predictions.

    They must be those of the validation part: chosen on the test part, scores are those of an oracle. Of equally good
    thresholds the one nearest 0.5 is taken, then the lower; so a class that is never predicted, or nowhere true, gets
    the one nearest 0.5.

    Args:
        logits: (n, n_classes).
        labels: (n, n_classes), 0 or 1.
        grid: Probabilities inside (0, 1).
    """
    scores, truth = np.asarray(logits, np.float64), np.asarray(labels) > 0

    def best(score: Floats, true: Bools) -> float:
        def goodness(threshold: float) -> tuple[float, float, float]:
            f1 = float(f1_binary(confusion_matrix(apply_thresholds(score, threshold), true)))
            return f1 if true.any() else 0.0, -round(abs(threshold - 0.5), 9), -threshold

        return max(grid, key=goodness)

    return np.array([best(score, true) for score, true in zip(scores.T, truth.T, strict=True)], np.float64)


def apply_thresholds(logits: ArrayLike, thresholds: ArrayLike) -> Bools:
    """Where sigmoid(logit) >= threshold, for thresholds inside (0, 1); compared as logits, where nothing saturates."""
    odds = np.asarray(thresholds, np.float64)
    return np.asarray(logits, np.float64) >= np.log(odds / (1 - odds))

"""Scores of one-vs-rest classifiers, with the floor that a constant answer reaches; numpy only.

Dai et al. 2021 report binary accuracy and F1 per class (IEMOCAP) and weighted accuracy and F1 (CMU-MOSEI), with a
threshold per class that was chosen on the validation part. Accuracy alone says little there: answering "no" to
everything scores 83.3 % on their IEMOCAP test part.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mesm_data.errors import MesmError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

METRICS = ("accuracy", "weighted_accuracy", "f1", "auc", "average_precision")


def evaluate(
    logits: ArrayLike,
    labels: ArrayLike,
    limits: ArrayLike,
    classes: Sequence[str],
    *,
    exclusive: bool = False,
    pos_weight: ArrayLike = 1.0,
) -> dict[str, Any]:
    """All scores of some answers, ready for JSON: None where a score is not defined.

    Args:
        logits: (n, n_classes), finite.
        labels: (n, n_classes), 0 or 1.
        limits: (n_classes,), probabilities: the answer is "yes" where sigmoid(logit) >= limit (see `thresholds`).
        classes: their names.
        exclusive: each row has exactly one label; adds the scores of the most probable class.
        pos_weight: (n_classes,), what the positives of each class weighed in the loss. It shifts the logit that a model
            learns from log(p / (1 - p)) to log(p / (1 - p)) + log(pos_weight), so the most probable class is that
            with the highest logit - log(pos_weight).

    Returns:
        n           how many utterances
        classes     by name: support (how many are true), threshold, the METRICS, and floor {accuracy, f1}
        mean        each of the METRICS, over the classes that it is defined for
        floor       mean of the classes' floors: what constant answers score
        undefined   by metric: the classes that it is not defined for, which are left out of its mean
        single      only if exclusive: accuracy, recall (mean over the classes there are) and confusion, a list of rows:
                    true class down, answered class across

    A class that is nowhere true has no weighted accuracy, F1, AUC and average precision: there is nothing to find. One
    that is true everywhere has no weighted accuracy and AUC. Raises MesmError if a logit is not finite.
    """
    scores, truth = _arrays(logits, labels)
    cuts = np.asarray(limits, np.float64)
    answers = decide(scores, cuts)
    by_class: dict[str, dict[str, Any]] = {
        name: {
            "support": int(truth[:, index].sum()),
            "threshold": float(cuts[index]),
            **binary(answers[:, index], truth[:, index]),
            "auc": auc(scores[:, index], truth[:, index]),
            "average_precision": average_precision(scores[:, index], truth[:, index]),
            "floor": floor(truth[:, index]),
        }
        for index, name in enumerate(classes)
    }
    said = {
        "n": len(truth),
        "classes": by_class,
        "mean": {metric: _mean(of[metric] for of in by_class.values()) for metric in METRICS},
        "floor": {metric: _mean(of["floor"][metric] for of in by_class.values()) for metric in ("accuracy", "f1")},
        "undefined": {
            metric: absent
            for metric in METRICS
            if (absent := [name for name, of in by_class.items() if of[metric] is None])
        },
    }
    return {**said, "single": single(scores - np.log(np.asarray(pos_weight, np.float64)), truth)} if exclusive else said


def decide(logits: ArrayLike, limits: ArrayLike) -> Bools:
    """Where sigmoid(logit) >= limit, for limits inside (0, 1); compared as logits, where nothing saturates."""
    odds = np.asarray(limits, np.float64)
    return np.asarray(logits, np.float64) >= np.log(odds / (1 - odds))


def thresholds(logits: ArrayLike, labels: ArrayLike, grid: Sequence[float]) -> Floats:
    """The threshold of each class, (n_classes,): of those in `grid` the one with the best F1 on these answers.

    They must be those of the validation part: chosen on the test part, scores are those of an oracle. Of equally good
    thresholds the one nearest 0.5 is taken, then the lower; so a class that is never found, or nowhere true, gets the
    one nearest 0.5. The arguments are those of `evaluate`.
    """
    scores, truth = _arrays(logits, labels)

    def best(score: Floats, true: Bools) -> float:
        def goodness(limit: float) -> tuple[float, float, float]:
            return binary(decide(score, limit), true)["f1"] or 0.0, -round(abs(limit - 0.5), 9), -limit

        return max(grid, key=goodness)

    return np.array([best(score, true) for score, true in zip(scores.T, truth.T, strict=True)])


def binary(answers: Bools, truth: Bools) -> dict[str, float | None]:
    """Accuracy, weighted accuracy and F1 of the answers (n,) to one question.

    Weighted accuracy is (tp * n/p + tn) / (2n), with p true and n false ones (Dai et al. 2021):
    the mean of the recall of both answers, also called balanced accuracy.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    tp, tn = int((answers & truth).sum()), int((~answers & ~truth).sum())
    recall, specificity = _ratio(tp, positives), _ratio(tn, negatives)
    return {
        "accuracy": _ratio(tp + tn, positives + negatives),
        "weighted_accuracy": None if recall is None or specificity is None else (recall + specificity) / 2,
        "f1": _ratio(2 * tp, int(answers.sum()) + positives) if positives else None,
    }


def auc(scores: Floats, truth: Bools) -> float | None:
    """The share of pairs (true, false) that the scores put in order, a tie counting half (Mann and Whitney 1947)."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # from 1; the mean rank among equals
    above = float(ranks[truth].sum()) - positives * (positives + 1) / 2
    return _ratio(above, positives * negatives)


def average_precision(scores: Floats, truth: Bools) -> float | None:
    """The mean, over the true ones, of the precision among all that score at least as high."""
    if not truth.any():
        return None
    _, places = np.unique(-scores, return_inverse=True)
    answered, found = (np.cumsum(np.bincount(places, weights=weights)) for weights in (np.ones(len(truth)), truth))
    return float((found / answered)[places][truth].mean())


def floor(truth: Bools) -> dict[str, float | None]:
    """What needs no model: the accuracy of always "no", and the F1 of always "yes", 2p / (1 + p) with p the share."""
    share = _ratio(int(truth.sum()), len(truth))
    return {
        "accuracy": None if share is None else 1 - share,
        "f1": 2 * share / (1 + share) if share else None,
    }


def single(scores: Floats, truth: Bools) -> dict[str, Any]:
    """The class with the highest score (of equals the first) against the one label of each row."""
    if (truth.sum(axis=1) != 1).any():
        raise ValueError("each row must have exactly one label")
    size = truth.shape[1]
    pairs = truth.argmax(axis=1) * size + scores.argmax(axis=1) if len(truth) else np.zeros(0, np.int64)
    confusion = np.bincount(pairs, minlength=size * size).reshape(size, size)
    right = [int(number) for number in confusion.diagonal()]
    return {
        "accuracy": _ratio(sum(right), len(truth)),
        "recall": _mean(_ratio(hits, int(total)) for hits, total in zip(right, confusion.sum(axis=1), strict=True)),
        "confusion": confusion.tolist(),
    }


def _arrays(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, Bools]:
    scores, truth = np.asarray(logits, np.float64), np.asarray(labels)
    if scores.ndim != 2 or scores.shape != truth.shape:
        raise ValueError(f"logits {scores.shape} and labels {truth.shape} must both be (n, n_classes)")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    broken = int((~np.isfinite(scores)).any(axis=1).sum())
    if broken:  # NaN compares as "no", which scores well: it must not pass for an answer
        raise MesmError(f"the model's answer to {broken} of {len(scores)} utterances is not finite: training diverged")
    return scores, truth.astype(bool)


def _ratio(above: float, below: float) -> float | None:
    return above / below if below else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

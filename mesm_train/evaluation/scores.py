"""Tables of scores of the predictions of classes, ready for JSON: None where a score is not defined.

Dai et al. 2021 report accuracy and F1 of each class (IEMOCAP), and balanced accuracy and F1 (CMU-MOSEI), with a
threshold per class that was chosen on the validation part. Accuracy alone says little there: always answering no has
83.3 % on their IEMOCAP test part. So every table has the trivial baselines beside the scores.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mesm_train.evaluation.metrics import (
    Bools,
    Floats,
    accuracy,
    auc,
    average_precision,
    balanced_accuracy,
    confusion_matrix,
    ece,
    f1_binary,
    f1_macro,
    f1_weighted,
)
from mesm_train.evaluation.score_values import (
    Scores,
    check_finite,
    mean_baselines,
    mean_of,
    number_or_none,
    plain_baselines,
)
from mesm_train.evaluation.thresholds import apply_thresholds
from mesm_train.evaluation.trivial_baselines import binary_baselines, multiclass_baselines

CLASS_METRICS = ("accuracy", "balanced_accuracy", "f1", "f1_weighted", "auc", "average_precision", "ece")
MULTICLASS_METRICS = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted")


def binary_scores(
    logits: ArrayLike,
    labels: ArrayLike,
    thresholds: ArrayLike,
    classes: Sequence[str],
    *,
    exclusive: bool = False,
    pos_weight: ArrayLike = 1.0,
) -> Scores:
    """The scores of yes/no questions, one per class.

    Args:
        logits: (n, n_classes), finite.
        labels: (n, n_classes), 0 or 1.
        thresholds: (n_classes,), probabilities: the prediction is yes where sigmoid(logit) >= threshold.
        classes: their names.
        exclusive: each row has exactly one label; adds the scores of the most probable class.
        pos_weight: (n_classes,), the weights of the positives in the loss. They shift the logit that a model learns
            from log(p / (1 - p)) to log(p / (1 - p)) + log(pos_weight), so log(pos_weight) is subtracted for the most
            probable class and for the calibration.

    Returns:
        task        "binary"
        n           how many utterances
        classes     by name: support (how many are true), threshold, the CLASS_METRICS, baselines (see
                    `binary_baselines`)
        mean        each of the CLASS_METRICS, over the classes that it is defined for
        baselines   the means of the classes' baselines
        undefined   by metric: the classes that it is not defined for, which are left out of its mean
        multiclass  only if exclusive: see `_multiclass`

    A class that is nowhere true has no balanced accuracy, F1, AUC and average precision; one that is true everywhere
    has no balanced accuracy and AUC.

    Raises:
        MesmError: A logit is not finite.
    """
    scores, truth = _checked(logits, labels)
    unweighted = scores - np.log(np.asarray(pos_weight, np.float64))
    cuts = np.asarray(thresholds, np.float64)
    predicted, probability = apply_thresholds(scores, cuts), _sigmoid(unweighted)
    table = _class_table(predicted, scores, probability, truth, [float(cut) for cut in cuts], classes)
    if exclusive:
        shifted = np.exp(unweighted - unweighted.max(axis=1, keepdims=True, initial=-np.inf))
        table["multiclass"] = _multiclass(shifted / shifted.sum(axis=1, keepdims=True), truth)
    return {"task": "binary", **table}


def multiclass_scores(logits: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> Scores:
    """The scores of a softmax: the same tables, where the prediction is yes for the most probable class alone.

    The arguments and the result are those of `binary_scores`; `task` is "multiclass", a threshold is None.
    """
    scores, truth = _checked(logits, labels)
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    probability = exponents / exponents.sum(axis=1, keepdims=True)
    predicted = np.eye(len(classes), dtype=bool)[_most_probable(probability)]
    table = _class_table(predicted, probability, probability, truth, [None] * len(classes), classes)
    return {"task": "multiclass", **table, "multiclass": _multiclass(probability, truth)}


def _class_table(
    predicted: Bools,
    scores: Floats,
    probability: Floats,
    truth: Bools,
    thresholds: Sequence[float | None],
    classes: Sequence[str],
) -> Scores:
    by_class: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(classes):
        true, counts = truth[:, index], confusion_matrix(predicted[:, index], truth[:, index])
        values = (
            accuracy(counts), balanced_accuracy(counts), f1_binary(counts), f1_weighted(counts),
            auc(scores[:, index], true), average_precision(scores[:, index], true), ece(probability[:, index], true),
        )  # fmt: skip
        positives = int(true.sum())
        by_class[name] = {
            "support": positives,
            "threshold": thresholds[index],
            **dict(zip(CLASS_METRICS, map(number_or_none, values), strict=True)),
            "baselines": plain_baselines(binary_baselines(positives, len(true))),
        }
    return {
        "n": len(truth),
        "classes": by_class,
        "mean": {metric: mean_of(of[metric] for of in by_class.values()) for metric in CLASS_METRICS},
        "baselines": mean_baselines([of["baselines"] for of in by_class.values()]),
        "undefined": {
            metric: missing
            for metric in CLASS_METRICS
            if (missing := [name for name, of in by_class.items() if of[metric] is None])
        },
    }


def _multiclass(probability: Floats, truth: Bools) -> Scores:
    """The most probable class (of equals the first) against the one label of each row.

    The MULTICLASS_METRICS, ece (of the probability of the predicted class), confusion (a list of rows: true class down,
    predicted class across) and baselines (see `multiclass_baselines`).
    """
    if (truth.sum(axis=1) != 1).any():
        raise ValueError("each row must have exactly one label")
    best, size = _most_probable(probability), truth.shape[1]
    true = truth.argmax(axis=1) if len(truth) else np.zeros(0, np.int64)
    counts = confusion_matrix(best, true, size)
    values = (accuracy(counts), balanced_accuracy(counts), f1_macro(counts), f1_weighted(counts))
    confidence = probability.max(axis=1, initial=0)
    return {
        **dict(zip(MULTICLASS_METRICS, map(number_or_none, values), strict=True)),
        "ece": number_or_none(ece(confidence, best == true)),
        "confusion": counts.tolist(),
        "baselines": plain_baselines(multiclass_baselines(counts.sum(axis=1))),
    }


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, Bools]:
    scores, truth = np.asarray(logits, np.float64), np.asarray(labels)
    if scores.ndim != 2 or scores.shape != truth.shape:
        raise ValueError(f"logits {scores.shape} and labels {truth.shape} must both be (n, n_classes)")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    check_finite(scores)
    return scores, truth.astype(bool)


def _most_probable(probability: Floats) -> Any:
    return probability.argmax(axis=1) if len(probability) else np.zeros(0, np.int64)


def _sigmoid(logits: Floats) -> Floats:
    return np.exp(-np.logaddexp(0, -logits))

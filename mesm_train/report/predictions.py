"""predictions-test.parquet of a run: its rows as probabilities and answers, and scores of resampled utterances."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError
from mesm_train.evaluation.metrics import Bools, Floats, accuracy, balanced_accuracy, f1_binary, f1_weighted
from mesm_train.evaluation.score_values import Scores
from mesm_train.evaluation.scores import binary_scores, multiclass_scores
from mesm_train.evaluation.significance import confusion_columns
from mesm_train.evaluation.thresholds import apply_thresholds
from mesm_train.training.prediction_table import read_numbers

Interval = tuple[float, float]

RESAMPLES = 1000
CHUNK = 2**21  # numbers of resampling weights in memory at once
COVERED = 0.95
OF_CONFUSIONS = {
    "accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "f1": f1_binary, "f1_weighted": f1_weighted
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Logits and targets of the primary view on a part of the split, and what turns logits into answers.

    Attributes:
        task: binary (a yes/no question per class) or multiclass (a softmax).
        logits: float64 (n, classes).
        targets: bool (n, classes).
        thresholds: (classes,), probabilities; of a softmax unused.
        offset: (classes,), log(pos_weight), by which training shifted the logits.
        exclusive: exactly one class is true of each utterance.
    """

    task: str
    keys: tuple[str, ...]
    logits: Floats
    targets: Bools
    thresholds: Floats
    offset: Floats
    exclusive: bool

    @property
    def answers(self) -> Bools:
        """Where the model says yes, (n, classes)."""
        if self.task == "multiclass":
            return np.eye(self.logits.shape[1], dtype=bool)[self.most_probable]
        return apply_thresholds(self.logits, self.thresholds)

    @property
    def most_probable(self) -> NDArray[np.int64]:
        """The class with the highest probability, (n,); of equals the first."""
        return np.asarray((self.logits - self.offset).argmax(axis=1))

    @property
    def probabilities(self) -> Floats:
        """Of each class, without the shift of the weighted loss, (n, classes)."""
        shifted = self.logits - self.offset
        if self.task == "multiclass":
            exponents = np.exp(shifted - shifted.max(axis=1, keepdims=True))
            return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))
        return np.exp(-np.logaddexp(0, -shifted))

    @property
    def losses(self) -> Floats:
        """Cross-entropy, (n,); of yes/no questions the mean over the classes."""
        probability = self.probabilities
        if self.task == "multiclass":
            return np.asarray(-np.log(np.maximum(probability, 1e-12))[self.targets])
        shifted = self.logits - self.offset
        return np.asarray(np.logaddexp(0, np.where(self.targets, -shifted, shifted)).mean(axis=1))

    @property
    def wrong(self) -> Bools:
        """Where the most probable class is wrong; where there may be none or several, where any answer is, (n,)."""
        if self.exclusive:
            return np.asarray(self.most_probable != self.targets.argmax(axis=1))
        return np.asarray((self.answers != self.targets).any(axis=1))

    def take(self, rows: Sequence[int]) -> "Predictions":
        """These rows only."""
        keys = tuple(self.keys[row] for row in rows)
        return replace(self, keys=keys, logits=self.logits[rows], targets=self.targets[rows])

    def scores(self, classes: Sequence[str]) -> Scores:
        """See mesm_train.evaluation.scores."""
        if self.task == "multiclass":
            return multiclass_scores(self.logits, self.targets, classes)
        weight = np.exp(self.offset)
        return binary_scores(
            self.logits, self.targets, self.thresholds, classes, exclusive=self.exclusive, pos_weight=weight
        )


def read_predictions(path: Path, scores: Mapping[str, Any], thresholds: Mapping[str, Any]) -> Predictions:
    """The predictions in `path` for the primary view.

    Args:
        path: the Parquet file.
        scores: of the same part, with the names of the classes; their task is not number.
        thresholds: the content of thresholds.json.

    Raises:
        InputError: the file cannot be read or does not fit the classes.
    """
    classes = list(scores["classes"])
    keys, (logits, targets) = read_numbers(
        path, [f"logit_{name}" for name in classes], [f"label_{name}" for name in classes]
    )
    limits = np.asarray(thresholds["thresholds"], np.float64)[: len(classes)]
    weight = np.asarray(thresholds.get("pos_weight", np.ones(len(limits))), np.float64)[: len(classes)]
    fits = len(limits) == len(weight) == len(classes) and list(thresholds["classes"])[: len(classes)] == classes
    if not fits or not (weight > 0).all() or not ((limits > 0) & (limits < 1)).all():
        raise InputError(f"{path.parent / 'thresholds.json'} does not fit the classes {', '.join(classes)}")
    exclusive = "multiclass" in scores
    sound = np.isfinite(logits).all() and np.isin(targets, (0, 1)).all()
    if not len(logits) or not sound or (exclusive and (targets.sum(axis=1) != 1).any()):
        raise InputError(f"{path} holds no predictions, or logits and labels that cannot be")
    return Predictions(
        task=scores["task"], keys=keys, logits=logits, targets=targets.astype(bool), thresholds=limits,
        offset=np.log(weight), exclusive=exclusive,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """Scores of resampled utterances: by metric (RESAMPLES, classes), NaN where not defined; `right`: (RESAMPLES,).

    The same seed draws the same utterances, so the resamples of two runs on the same utterances are pairs.
    """

    classes: Mapping[str, Floats]
    right: Floats | None  # share of utterances whose most probable class is right

    def of_class(self, metric: str, index: int) -> Interval | None:
        """The interval of one class's score."""
        return percentile_interval(self.classes[metric][:, index])

    def of_mean(self, metric: str) -> Interval | None:
        """The interval of the mean over the classes that a resample defines the metric for."""
        return percentile_interval(self.mean(metric))

    def mean(self, metric: str) -> Floats:
        """The mean over the classes in each resample."""
        values = self.classes[metric]
        defined = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(defined, values, 0).sum(axis=1) / defined.sum(axis=1))


def percentile_interval(values: Floats) -> Interval | None:
    """The middle 95 % of resampled scores; None if fewer than half of the resamples define the score."""
    known = values[~np.isnan(values)]
    if 2 * len(known) < len(values):
        return None
    low, high = np.quantile(known, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return float(low), float(high)


def resample(predictions: Predictions, *, seed: int = 0) -> Resampled:
    """Score RESAMPLES samples of the utterances, drawn with replacement (Efron's percentile bootstrap).

    It says how much the scores of this one trained model would vary with other utterances of the same speakers; not how
    much training again, or other speakers, would change them.
    """
    truth, n = predictions.targets, len(predictions.keys)
    columns = confusion_columns(predictions.answers, truth)
    ranked = predictions.probabilities if predictions.task == "multiclass" else predictions.logits
    right = ~predictions.wrong if predictions.exclusive else None
    parts, rights = list[dict[str, Floats]](), list[Floats]()
    for weights in draws(n, seed):
        sums = (weights @ columns.reshape(n, -1)).reshape(len(weights), *columns.shape[1:])
        part = {name: metric(sums) for name, metric in OF_CONFUSIONS.items()}
        areas = [_areas(weights, score, true) for score, true in zip(ranked.T, truth.T, strict=True)]
        part["auc"], part["average_precision"] = (np.stack(column, axis=1) for column in zip(*areas, strict=True))
        parts.append(part)
        if right is not None:
            rights.append(weights @ right / n)
    classes = {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}
    return Resampled(classes=classes, right=np.concatenate(rights) if rights else None)


def draws(n: int, seed: int) -> Iterator[Floats]:
    """How often each utterance is drawn, (some, n); RESAMPLES rows in all."""
    draw, rows = np.random.default_rng(seed), max(1, CHUNK // n)
    for start in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - start)
        yield draw.multinomial(n, np.full(n, 1 / n), size=count).astype(np.float64)


def _areas(weights: Floats, scores: Floats, truth: Bools) -> tuple[Floats, Floats]:
    """AUC and average precision of each row of weights, as metrics.auc and average_precision define them."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)  # the last one of equal scores
    positive = np.cumsum((weights * truth)[:, order], axis=1)[:, ends]
    total = np.cumsum(weights[:, order], axis=1)[:, ends]
    group = np.diff(positive, axis=1, prepend=0)
    group_negative = np.diff(total, axis=1, prepend=0) - group
    negative = total - positive
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = positive[:, -1] * negative[:, -1]
        below = negative[:, -1:] - negative + group_negative / 2
        area = (group * below).sum(axis=1) / pairs
        precision = np.where(total > 0, positive / total, 0)
        average = (group * precision).sum(axis=1) / positive[:, -1]
    return np.where(pairs > 0, area, np.nan), np.where(positive[:, -1] > 0, average, np.nan)

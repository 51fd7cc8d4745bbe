"""predictions-<part>.parquet of a run, what resampling its utterances says of the scores, and calibration."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError
from mesm_data.shards.manifest import read_table
from mesm_train import metrics

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Interval = tuple[float, float]

RESAMPLES = 1000
CHUNK = 2**22  # numbers of resampling weights in memory at once
COVERED = 0.95
BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Logits and targets of a part of the split, with what is needed to turn logits into answers.

    `logits` and `targets`: (n, classes). `offset`: (classes,), log(pos_weight), by which training shifted the logits.
    """

    keys: tuple[str, ...]
    logits: Floats
    targets: Bools
    thresholds: Floats
    offset: Floats
    exclusive: bool

    @property
    def answers(self) -> Bools:
        """Where the model says yes, (n, classes)."""
        return metrics.decide(self.logits, self.thresholds)

    @property
    def probabilities(self) -> Floats:
        """Of each class, without the shift of the weighted loss, (n, classes)."""
        return np.asarray(1 / (1 + np.exp(self.offset - self.logits)))

    @property
    def losses(self) -> Floats:
        """Cross-entropy of `probabilities`, the mean over the classes, (n,)."""
        shifted = self.logits - self.offset
        return np.asarray(np.logaddexp(0, np.where(self.targets, -shifted, shifted)).mean(axis=1))

    def take(self, numbers: Sequence[int]) -> "Predictions":
        """These rows only."""
        return Predictions(
            keys=tuple(self.keys[number] for number in numbers), logits=self.logits[numbers],
            targets=self.targets[numbers], thresholds=self.thresholds, offset=self.offset, exclusive=self.exclusive,
        )  # fmt: skip

    def scores(self, classes: Sequence[str]) -> dict[str, Any]:
        """See `metrics.evaluate`."""
        return metrics.evaluate(
            self.logits, self.targets, self.thresholds, classes,
            exclusive=self.exclusive, pos_weight=np.exp(self.offset),
        )  # fmt: skip


def read_predictions(
    path: Path, classes: Sequence[str], thresholds: Mapping[str, Any], *, exclusive: bool
) -> Predictions:
    """The predictions in `path`. `thresholds`: the content of thresholds.json.

    Raises InputError if the file cannot be read or does not fit the classes.
    """
    table = read_table(path)
    names = [f"{kind}_{name}" for kind in ("logit", "label") for name in classes]
    if missing := [name for name in ("key", *names) if name not in table.column_names]:
        raise InputError(f"{path} has no column {missing[0]!r}")
    try:
        logits, targets = (
            np.stack([table.column(f"{kind}_{name}").to_numpy() for name in classes], axis=1).astype(np.float64)
            for kind in ("logit", "label")
        )
    except (ValueError, TypeError):
        raise InputError(f"{path}: its logits and labels are not numbers") from None
    limits = np.asarray(thresholds["thresholds"], np.float64)
    weight = np.asarray(thresholds.get("pos_weight", np.ones(len(classes))), np.float64)
    if (
        not len(limits) == len(weight) == len(classes)
        or not (weight > 0).all()
        or not ((limits > 0) & (limits < 1)).all()
    ):
        raise InputError(f"{path.parent / 'thresholds.json'} does not fit the classes {', '.join(classes)}")
    if not len(logits) or not np.isfinite(logits).all() or not np.isin(targets, (0, 1)).all():
        raise InputError(f"{path} holds no predictions, or logits that are not finite, or labels other than 0 and 1")
    return Predictions(
        keys=tuple(map(str, table.column("key").to_pylist())), logits=logits, targets=targets.astype(bool),
        thresholds=limits, offset=np.log(weight), exclusive=exclusive and bool((targets.sum(axis=1) == 1).all()),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """Scores of the resampled utterances, (RESAMPLES, classes) each, NaN where not defined; `single`: (RESAMPLES,).

    The same seed draws the same utterances, so the resamples of two runs on the same utterances are pairs.
    """

    classes: Mapping[str, Floats]
    single: Floats | None

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
    answers, truth = predictions.answers, predictions.targets
    right = None
    if predictions.exclusive:
        right = (predictions.logits - predictions.offset).argmax(axis=1) == truth.argmax(axis=1)
    parts = list[dict[str, Floats]]()
    singles = list[Floats]()
    for weights in _draws(len(truth), seed):
        total, positives = weights.sum(axis=1, keepdims=True), weights @ truth
        hits, yes = weights @ (answers & truth), weights @ answers
        negatives = total - positives
        with np.errstate(invalid="ignore", divide="ignore"):
            specificity = (negatives - (yes - hits)) / negatives
            part = {
                "accuracy": (total - positives - yes + 2 * hits) / total,
                "weighted_accuracy": (hits / positives + specificity) / 2,
                "f1": np.where(positives > 0, 2 * hits / (yes + positives), np.nan),
            }
        areas = [_areas(weights, score, true) for score, true in zip(predictions.logits.T, truth.T, strict=True)]
        part["auc"], part["average_precision"] = (np.stack(column, axis=1) for column in zip(*areas, strict=True))
        parts.append(part)
        if right is not None:
            singles.append((weights @ right) / total[:, 0])
    classes = {metric: np.concatenate([part[metric] for part in parts]) for metric in metrics.METRICS}
    return Resampled(classes=classes, single=np.concatenate(singles) if singles else None)


def _draws(n: int, seed: int) -> Iterator[Floats]:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Predictions of all classes by predicted probability, in bins of equal width; empty bins are left out.

    `error`: the expected calibration error, the mean distance of the two means weighted by count (Naeini et al. 2015).
    """

    predicted: tuple[float, ...]  # mean in the bin
    observed: tuple[float, ...]  # share that is true
    counts: tuple[int, ...]
    error: float


def calibration(probabilities: Floats, targets: Bools) -> Calibration:
    """How well probabilities, of any shape, agree with what is true."""
    flat, truth = probabilities.ravel(), targets.ravel()
    bins = np.minimum((flat * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    used = counts > 0
    predicted = np.bincount(bins, flat, BINS)[used] / counts[used]
    observed = np.bincount(bins, truth, BINS)[used] / counts[used]
    error = float((np.abs(predicted - observed) * counts[used]).sum() / len(flat))
    return Calibration(
        predicted=tuple(predicted.tolist()), observed=tuple(observed.tolist()),
        counts=tuple(counts[used].tolist()), error=error,
    )  # fmt: skip

"""How far scores that are computed again are from those that a run recorded.

On the same machine with the same versions they are equal, bit for bit. Elsewhere sums are rounded differently, and a
sparse block may choose other sites. So the logits in RUN/predictions-<part>.parquet are compared with a tolerance, and
the recorded scores must be those of these logits.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mesm_train.data.labels import Heads
from mesm_train.evaluation.thresholds import apply_thresholds
from mesm_train.training.evaluation import Calibration, Predictions, score
from mesm_train.training.prediction_table import read_numbers

TOLERANCE = 0.01  # of a logit, 0.25 % of a probability at most. Other choices of sites moved logits by up to 0.006


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """The difference between recorded and new predictions."""

    logits: float  # the largest absolute difference
    decisions: int  # how many decisions differ
    count: int  # of so many, one per utterance and class

    @property
    def within_tolerance(self) -> bool:
        """Whether rounding explains it."""
        return self.logits <= TOLERANCE

    def __str__(self) -> str:
        return (
            f"logits differ by up to {self.logits:.2g} (tolerance {TOLERANCE:g}), "
            f"{self.decisions} of {self.count} decisions change"
        )


def deviation(
    path: Path, heads: Heads, predictions: Predictions, calibration: Calibration, scores: dict[str, Any]
) -> Deviation | None:
    """How far `predictions` are from those in the file at `path`.

    Args:
        path: predictions-<part>.parquet of the run.
        heads: As for `evaluation.score`.
        predictions: The new ones.
        calibration: As for `evaluation.score`.
        scores: The recorded ones.

    Returns:
        None if the file has other utterances, or `scores` are not those of its logits.

    Raises:
        InputError: The file cannot be read, or is damaged.
    """
    logits = _recorded_logits(path, predictions.keys, heads)
    if logits is None or not _close(scores, score(heads, replace(predictions, logits=logits), calibration)):
        return None
    return Deviation(
        logits=float(np.abs(logits - predictions.logits).max(initial=0.0)),
        decisions=int(
            (_decisions(heads, logits, calibration) != _decisions(heads, predictions.logits, calibration)).sum()
        ),
        count=logits.size,
    )


def _decisions(heads: Heads, logits: Any, calibration: Calibration) -> Any:
    """(n, outputs): yes or no; with a softmax, yes for the most probable class; of numbers, the nearest whole one."""
    decisions = apply_thresholds(logits, calibration.thresholds).astype(np.int64)
    for head in heads.heads:
        own = logits[:, head.columns]
        if head.kind == "multiclass":
            decisions[:, head.columns] = own == own.max(axis=1, keepdims=True)
        if head.kind == "number":
            decisions[:, head.columns] = np.rint(own)
    return decisions


def _recorded_logits(path: Path, keys: tuple[str, ...], heads: Heads) -> Any:
    """float32 (n, outputs), or None if the file has not exactly these utterances in this order."""
    names = [
        f"{'prediction' if head.kind == 'number' else 'logit'}_{name}" for head in heads.heads for name in head.outputs
    ]
    recorded, [logits] = read_numbers(path, names)
    return logits.astype(np.float32) if recorded == keys else None


def _close(one: Any, other: Any) -> bool:
    """Whether nested scores are the same but for the last digits of floats."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)

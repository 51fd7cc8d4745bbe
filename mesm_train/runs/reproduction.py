"""How far scores that are computed again are from those that a run recorded.

On the same machine with the same versions they are equal, bit for bit. Elsewhere sums are rounded differently, and a
sparse block may choose other sites. So the logits in RUN/predictions-<part>.parquet are compared with a tolerance, and
the recorded scores must be those of these logits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mesm_data.errors import MesmError
from mesm_data.dataset.manifest import read_table
from mesm_train.training.evaluation import Answers, score
from mesm_train.evaluation.metrics import decide
from mesm_train.training.setup import Setup

TOLERANCE = 0.01  # of a logit, 0.25 % of a probability at most. Other choices of sites moved logits by up to 0.006


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """The difference between recorded and new answers."""

    logits: float  # the largest absolute difference
    answers: int  # how many answers yes or no differ
    count: int  # of so many answers, one per utterance and class

    @property
    def within_tolerance(self) -> bool:
        """Whether rounding explains it."""
        return self.logits <= TOLERANCE

    def __str__(self) -> str:
        return (
            f"logits differ by up to {self.logits:.2g} (tolerance {TOLERANCE:g}), "
            f"{self.answers} of {self.count} answers yes or no change"
        )


def deviation(
    path: Path, setup: Setup, answers: Answers, limits: ArrayLike, pos_weight: ArrayLike, scores: dict[str, Any]
) -> Deviation | None:
    """How far `answers` are from those in the predictions file at `path`.

    Args:
        limits, pos_weight: (classes,), as for `evaluation.score`.
        scores: the recorded ones.

    Returns None if the file has other utterances, or `scores` are not those of its logits. Raises MesmError if it
    cannot be read.
    """
    logits = _recorded_logits(path, answers.keys, setup.view.classes)
    if logits is None or not _close(scores, score(setup, replace(answers, logits=logits), limits, pos_weight)):
        return None
    return Deviation(
        logits=float(np.abs(logits - answers.logits).max(initial=0.0)),
        answers=int((decide(logits, limits) != decide(answers.logits, limits)).sum()),
        count=logits.size,
    )


def _recorded_logits(path: Path, keys: tuple[str, ...], classes: Sequence[str]) -> Any:
    """float32 (n, classes), or None if the file has not exactly these utterances in this order."""
    table = read_table(path)
    try:
        if tuple(table.column("key").to_pylist()) != keys:
            return None
        return np.stack([np.asarray(table.column(f"logit_{name}"), np.float32) for name in classes], axis=1)
    except (KeyError, ValueError, TypeError) as error:
        raise MesmError(f"{path} is damaged: it has no key and logits of {', '.join(classes)} ({error})") from None


def _close(one: Any, other: Any) -> bool:
    """Whether nested scores are the same but for the last digits of floats."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)

"""predictions-test.parquet of a run that predicts numbers, and scores of resampled utterances."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mesm_data.errors import InputError
from mesm_train.evaluation.metrics import Floats, ccc, mae, moments, pearson
from mesm_train.report.predictions import Resampled, draws
from mesm_train.training.prediction_table import read_numbers

OF_MOMENTS = {"ccc": ccc, "pearson": pearson, "mae": mae}


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberPredictions:
    """The predicted numbers of the primary view on a part of the split.

    Attributes:
        keys: (n,), of the utterances.
        moments: float64 (n, numbers, 7), see `mesm_train.evaluation.metrics.moments`.
    """

    keys: tuple[str, ...]
    moments: Floats


def read_number_predictions(path: Path, names: Sequence[str]) -> NumberPredictions:
    """The predictions in `path` of the numbers `names`. Raises InputError if the file lacks them, or is damaged."""
    keys, (predicted, targets) = read_numbers(
        path, [f"prediction_{name}" for name in names], [f"target_{name}" for name in names]
    )
    if not len(predicted) or not (np.isfinite(predicted).all() and np.isfinite(targets).all()):
        raise InputError(f"{path} holds no predictions, or some that are not finite")
    centre = targets.mean(axis=0)  # moments of large numbers would lose their digits
    return NumberPredictions(keys=keys, moments=moments(predicted - centre, targets - centre))


def resample_numbers(predictions: NumberPredictions, *, seed: int = 0) -> Resampled:
    """Scores of the samples of utterances that `predictions.resample` draws: the same utterances, so they are pairs."""
    n, numbers, width = predictions.moments.shape
    flat = predictions.moments.reshape(n, -1)
    sums = np.concatenate([weights @ flat for weights in draws(n, seed)]).reshape(-1, numbers, width)
    return Resampled(classes={name: metric(sums) for name, metric in OF_MOMENTS.items()}, right=None)

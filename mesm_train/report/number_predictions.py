"""predictions-test.parquet of a run that predicts numbers, and scores of resampled utterances."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mesm_data.dataset.manifest import read_table
from mesm_data.errors import InputError
from mesm_train.evaluation.metrics import Floats, ccc, mae, moments, pearson
from mesm_train.report.predictions import Resampled, draws

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
    table = read_table(path)
    columns = [f"{what}_{name}" for what in ("prediction", "target") for name in names]
    if missing := [name for name in ("key", *columns) if name not in table.column_names]:
        raise InputError(f"{path} has no column {missing[0]!r}")
    try:
        predicted, targets = (
            np.stack([table.column(f"{what}_{name}").to_numpy() for name in names], axis=1).astype(np.float64)
            for what in ("prediction", "target")
        )
    except (ValueError, TypeError):
        raise InputError(f"{path}: its predictions and targets are not numbers") from None
    if not len(predicted) or not (np.isfinite(predicted).all() and np.isfinite(targets).all()):
        raise InputError(f"{path} holds no predictions, or some that are not finite")
    centre = targets.mean(axis=0)  # moments of large numbers would lose their digits
    keys = tuple(map(str, table.column("key").to_pylist()))
    return NumberPredictions(keys=keys, moments=moments(predicted - centre, targets - centre))


def resample_numbers(predictions: NumberPredictions, *, seed: int = 0) -> Resampled:
    """Scores of the samples of utterances that `predictions.resample` draws: the same utterances, so they are pairs."""
    n, numbers, width = predictions.moments.shape
    flat = predictions.moments.reshape(n, -1)
    sums = np.concatenate([weights @ flat for weights in draws(n, seed)]).reshape(-1, numbers, width)
    return Resampled(classes={name: metric(sums) for name, metric in OF_MOMENTS.items()}, right=None)

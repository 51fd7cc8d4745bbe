"""What the tables of scores of classes and of numbers have in common."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mesm_data.errors import MesmError
from mesm_train.evaluation.metrics import Floats, mean_of_defined

Scores = dict[str, Any]


def check_finite(scores: Floats) -> None:
    broken = int((~np.isfinite(scores)).any(axis=1).sum())
    if broken:  # NaN compares as "no", which scores well: it must not pass for a prediction
        raise MesmError(f"the model's output for {broken} of {len(scores)} utterances is not finite: training diverged")


def best_baseline(baselines: Mapping[str, Mapping[str, float | None]], metric: str) -> float | None:
    """The best trivial baseline of a metric; None if none has it."""
    values = [of[metric] for of in baselines.values() if of.get(metric) is not None]
    known = [value for value in values if value is not None]
    return (min if metric == "mae" else max)(known, default=None)


def number_or_none(value: Any) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number


def plain_baselines(baselines: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    return {name: {metric: number_or_none(value) for metric, value in of.items()} for name, of in baselines.items()}


def mean_baselines(all_of: Sequence[Mapping[str, Mapping[str, float | None]]]) -> dict[str, dict[str, float | None]]:
    return {
        name: {metric: mean_of(of[name][metric] for of in all_of) for metric in metrics}
        for name, metrics in (all_of[0] if all_of else {}).items()
    }


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of the values that there are; None if there are none."""
    return number_or_none(mean_of_defined([math.nan if value is None else value for value in values]))

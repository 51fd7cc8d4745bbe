"""The scores on a page of several runs: with intervals, paired differences and trivial baselines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesm_train.report.predictions import Interval, Resampled, percentile_interval
from mesm_train.report.record import Record
from mesm_train.report.scores import is_low, trivial


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanScore:
    """A score that is compared: the mean over the classes, or over the numbers.

    Attributes:
        title: its heading.
        baseline_name: the trivial baseline.
        baseline: the score of it, of the run's scores on test.
        lower_is_better: as of an error.
    """

    title: str
    baseline_name: str
    baseline: Callable[[Mapping[str, Any]], float | None]
    lower_is_better: bool = False


def _recorded(name: str, metric: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda scores: trivial(scores["baselines"], name, metric)


MEANS = {  # of classes
    "f1": MeanScore(title="Macro F1", baseline_name="always yes", baseline=_recorded("always_yes", "f1")),
    "balanced_accuracy": MeanScore(
        title="Balanced accuracy", baseline_name="constant answer", baseline=lambda scores: 0.5
    ),
    "auc": MeanScore(title="AUC", baseline_name="chance", baseline=lambda scores: 0.5),
    "accuracy": MeanScore(title="Accuracy", baseline_name="always no", baseline=_recorded("always_no", "accuracy")),
}
NUMBER_MEANS = {
    "ccc": MeanScore(title="CCC", baseline_name="any constant", baseline=lambda scores: 0.0),
    "pearson": MeanScore(title="Pearson's r", baseline_name="no relation", baseline=lambda scores: 0.0),
    "mae": MeanScore(
        title="Mean absolute error", baseline_name="always the median", baseline=_recorded("median", "mae"),
        lower_is_better=True,
    ),
}  # fmt: skip


def score_table(
    metric: str,
    mean: MeanScore,
    records: Sequence[Record],
    resampled: Sequence[Resampled | None],
    *,
    paired: bool,
) -> dict[str, Any]:
    """The mean of a metric in each run with its interval and, if `paired`, its difference to the first run."""
    lines = [record.test["metrics"] for record in records if record.test]
    baseline, first = mean.baseline(lines[0]), lines[0]["mean"][metric]
    rows = []
    for record, line, drawn in zip(records, lines, resampled, strict=True):
        value = line["mean"][metric]
        pairs = paired_interval(metric, records[0], resampled[0], record, drawn) if paired else None
        rows.append(
            {
                "value": value,
                "interval": drawn and drawn.of_mean(metric),
                "low": _is_trivial(value, baseline, mean),
                "paired": pairs,
                "difference": value - first if pairs else None,
            }
        )
    return {
        "title": mean.title,
        "baseline": baseline,
        "baseline_name": mean.baseline_name,
        **drawn_rows(rows, baseline),
    }


def _is_trivial(value: float | None, baseline: float | None, mean: MeanScore) -> bool:
    """Whether the trivial baseline does as well."""
    return is_low(baseline, value) if mean.lower_is_better else is_low(value, baseline)


def drawn_rows(rows: Sequence[Mapping[str, Any]], baseline: float | None) -> dict[str, Any]:
    """The rows, and what maps their values, intervals and baseline to the figure's scale from 0 to 1.

    Shares have this scale already; an error goes beyond 1, and a correlation may be negative.
    """
    ends = [end for row in rows for end in (row["interval"] or ()) + (row["value"], baseline) if end is not None]
    low, high = min(0.0, *ends), max(1.0, *ends)

    def on_scale(value: float | None) -> float | None:
        return None if value is None else (value - low) / (high - low)

    drawn = [
        {**row, "plot": (on_scale(row["value"]), row["interval"] and [*map(on_scale, row["interval"])])} for row in rows
    ]
    return {"rows": drawn, "plot_baseline": on_scale(baseline)}


def paired_interval(
    metric: str, first: Record, base: Resampled | None, record: Record, drawn: Resampled | None
) -> Interval | None:
    """The 95 % interval of a run's score minus the first run's on the same resampled utterances.

    None for the first run itself, and where the runs were not tested on the same utterances.
    """
    keys = [(each.predictions or each.numbers) for each in (first, record)]
    if record is first or base is None or drawn is None or keys[0] is None or keys[1] is None:
        return None
    return percentile_interval(drawn.mean(metric) - base.mean(metric)) if keys[0].keys == keys[1].keys else None


def class_rows(sections: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """F1 of each class in each run; None where a run does not have the class."""
    rows: dict[str, dict[str, Any]] = {}
    for number, section in enumerate(sections):
        for row in section["classes"] if section else ():
            value, baseline = row["scores"]["f1"], row["baselines"].get("f1")
            empty = {
                "title": row["title"], "baseline": baseline, "plot_baseline": baseline, "cells": [None] * len(sections)
            }  # fmt: skip
            cell = {
                "value": value, "interval": row["interval"], "low": is_low(value, baseline),
                "plot": (value, row["interval"]),
            }  # fmt: skip
            rows.setdefault(row["title"], empty)["cells"][number] = cell
    return list(rows.values())


def number_rows(records: Sequence[Record], resampled: Sequence[Resampled | None]) -> list[dict[str, Any]]:
    """CCC of each number in each run; the runs have the same numbers where they are shown."""
    rows = []
    for index, name in enumerate(records[0].primary_classes):
        cells = [
            {
                "value": value,
                "interval": drawn.of_class("ccc", index) if drawn else None,
                "low": is_low(value, 0.0),
            }
            for record, drawn in zip(records, resampled, strict=True)
            if record.test
            for value in [record.test["metrics"]["numbers"].get(name, {}).get("ccc")]
        ]
        scale = drawn_rows(cells, 0.0)
        rows.append({"title": name, "baseline": 0.0, "cells": scale["rows"], "plot_baseline": scale["plot_baseline"]})
    return rows

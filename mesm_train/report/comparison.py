"""One page with several runs side by side: settings, scores with intervals, paired differences, curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.pages.page import render
from mesm_data.storage.files import atomic_write
from mesm_train.report import figures
from mesm_train.report.page import curve, flat_facts, leaks, summary
from mesm_train.report.predictions import Interval, Resampled, percentile_interval, resample
from mesm_train.report.record import Record, read_record
from mesm_train.report.scores import is_low, scores_section, trivial

MEANS = {  # metric -> its heading, and the name and key of its trivial baseline; without a key it is one half
    "f1": ("Macro F1", "always yes", "always_yes"),
    "balanced_accuracy": ("Balanced accuracy", "constant answer", ""),
    "auc": ("AUC", "chance", ""),
    "accuracy": ("Accuracy", "always no", "always_no"),
}
SAME_DATA = {"dataset": ("dataset", "root"), "split": ("split", "digest"), "label view": ("labels", "view")}


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Write the page `out` about two or more runs. Raises InputError if one is no run, or has not been tested."""
    records = [read_record(run) for run in runs]
    for run, record in zip(runs, records, strict=True):
        if record.test is None:
            raise InputError(f"{run} has no test scores yet: `mesm-train run --resume` brings it to its end")
        if record.test["metrics"]["task"] == "number":
            raise InputError(f"{run} predicts numbers: `mesm-train compare` has a table of such runs")
    with atomic_write(out) as file:
        file.write(render_comparison(records).encode())
    return out


def render_comparison(records: Sequence[Record]) -> str:
    """The page of several runs that have been tested. Differences are to the first of them."""
    resampled = [resample(record.predictions) if record.predictions else None for record in records]
    sections = [scores_section(record, drawn) for record, drawn in zip(records, resampled, strict=True)]
    warnings = incomparable(records)
    first = records[0]
    return render(
        "mesm_train.report",
        "comparison.html",
        names=run_names(records),
        runs=records,
        summaries=[summary(record) for record in records],
        sections=sections,
        totals=[total_operations(record) for record in records],
        scores=[score_table(metric, records, resampled, paired=not warnings) for metric in MEANS],
        warnings=warnings,
        leaks=leaks(first.provenance.get("split", {})),
        same_classes=len({record.classes for record in records}) == 1,
        classes=class_rows(sections),
        settings=differing_settings(records),
        figure=figures.curves([curve(record) for record in records]),
        synthetic=any(record.synthetic for record in records),
    )


def total_operations(record: Record) -> int | None:
    """Multiply-adds of the run's own model on the utterances that its report states; None if they were not counted."""
    parts = record.operations.get("models", {}).get(record.settings.get("model", {}).get("kind"), {})
    return sum(parts.values()) or None


def run_names(records: Sequence[Record]) -> list[str]:
    """The names of the runs' folders, numbered where two are equal."""
    names = [record.folder for record in records]
    return [f"{name} ({number})" if names.count(name) > 1 else name for number, name in enumerate(names, 1)]


def incomparable(records: Sequence[Record]) -> list[str]:
    """What keeps the runs' numbers from being compared, one sentence each."""
    names, sentences = run_names(records), []
    for what, (group, entry) in SAME_DATA.items():
        values = [record.provenance.get(group, {}).get(entry) for record in records]
        odd = [name for name, value in zip(names, values, strict=True) if value != values[0]]
        if odd:
            sentences.append(f"Not comparable: the {what} of {', '.join(odd)} differs from that of {names[0]}.")
    return sentences


def score_table(
    metric: str, records: Sequence[Record], resampled: Sequence[Resampled | None], *, paired: bool
) -> dict[str, Any]:
    """The mean of a metric in each run with its interval and, if `paired`, its difference to the first run."""
    title, baseline_name, key = MEANS[metric]
    lines = [record.test["metrics"] for record in records if record.test]
    baseline = trivial(lines[0]["baselines"], key, metric) if key else 0.5
    first = lines[0]["mean"][metric]
    rows = []
    for record, line, drawn in zip(records, lines, resampled, strict=True):
        value = line["mean"][metric]
        pairs = paired_interval(metric, records[0], resampled[0], record, drawn) if paired else None
        rows.append(
            {
                "value": value,
                "interval": drawn and drawn.of_mean(metric),
                "low": is_low(value, baseline),
                "paired": pairs,
                "difference": value - first if pairs else None,
            }
        )
    return {"title": title, "baseline": baseline, "baseline_name": baseline_name, "rows": rows}


def paired_interval(
    metric: str, first: Record, base: Resampled | None, record: Record, drawn: Resampled | None
) -> Interval | None:
    """The 95 % interval of a run's score minus the first run's on the same resampled utterances.

    None for the first run itself, and where the runs were not tested on the same utterances.
    """
    if record is first or base is None or drawn is None or first.predictions is None or record.predictions is None:
        return None
    if record.predictions.keys != first.predictions.keys:
        return None
    return percentile_interval(drawn.mean(metric) - base.mean(metric))


def class_rows(sections: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """F1 of each class in each run; None where a run does not have the class."""
    rows: dict[str, dict[str, Any]] = {}
    for number, section in enumerate(sections):
        for row in section["classes"] if section else ():
            value, baseline = row["scores"]["f1"], row["baselines"].get("f1")
            empty = {"title": row["title"], "baseline": baseline, "cells": [None] * len(sections)}
            cell = {"value": value, "interval": row["interval"], "low": is_low(value, baseline)}
            rows.setdefault(row["title"], empty)["cells"][number] = cell
    return list(rows.values())


def differing_settings(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """The settings in which the runs differ, with their values."""
    flat = [dict(flat_facts(record.settings)) for record in records]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    rows = [(key.replace(" ", "."), [settings.get(key, "not set") for settings in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]

"""One page with several runs side by side: settings, scores with intervals, paired differences, curves."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.pages.page import render
from mesm_data.storage.files import atomic_write
from mesm_train.report import figures
from mesm_train.report.compared_scores import MEANS, NUMBER_MEANS, class_rows, number_rows, score_table
from mesm_train.report.number_predictions import resample_numbers
from mesm_train.report.page import curve, flat_facts, leaks, summary
from mesm_train.report.predictions import Resampled, resample
from mesm_train.report.record import Record, read_record
from mesm_train.report.scores import scores_section

SAME_DATA: dict[str, Callable[[Record], Any]] = {
    "dataset": lambda record: record.provenance.get("dataset", {}).get("root"),
    "split": lambda record: record.provenance.get("split", {}).get("digest"),
    # Scores are those of the first view.
    "label view": lambda record: str(record.provenance.get("labels", {}).get("view")).split("+")[0],
}


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Write the page `out` about two or more runs. Raises InputError if one is no run, or has not been tested."""
    records = [read_record(run) for run in runs]
    for run, record in zip(runs, records, strict=True):
        if record.test is None and ("eval test", "no") in flat_facts(record.settings):
            raise InputError(f"{run} was trained with eval.test=false: it has no scores of the test part")
        if record.test is None:
            raise InputError(f"{run} has no test scores yet: `mesm-train run --resume` brings it to its end")
    if len({record.task == "number" for record in records}) > 1:
        [run, *_] = [run for run, record in zip(runs, records, strict=True) if record.task == "number"]
        raise InputError(f"{run} predicts numbers and others predict classes: compare runs of one kind")
    with atomic_write(out) as file:
        file.write(render_comparison(records).encode())
    return out


def render_comparison(records: Sequence[Record]) -> str:
    """The page of several runs that have been tested. Differences are to the first of them."""
    resampled = [_resampled(record) for record in records]
    sections = [scores_section(record, drawn) for record, drawn in zip(records, resampled, strict=True)]
    warnings = incomparable(records)
    first = records[0]
    is_number = first.task == "number"
    means = NUMBER_MEANS if is_number else MEANS
    return render(
        "mesm_train.report",
        "comparison.html",
        names=run_names(records),
        runs=records,
        summaries=[summary(record) for record in records],
        sections=sections,
        totals=[total_operations(record) for record in records],
        scores=[score_table(metric, mean, records, resampled, paired=not warnings) for metric, mean in means.items()],
        is_number=is_number,
        warnings=warnings,
        leaks=leaks(first.provenance.get("split", {})),
        same_classes=len({record.primary_classes for record in records}) == 1,
        outputs=number_rows(records, resampled) if is_number else class_rows(sections),
        settings=differing_settings(records),
        figure=figures.curves([curve(record) for record in records]),
        synthetic=any(record.synthetic for record in records),
    )


def _resampled(record: Record) -> Resampled | None:
    if record.numbers:
        return resample_numbers(record.numbers)
    return resample(record.predictions) if record.predictions else None


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
    for what, value_of in SAME_DATA.items():
        values = [value_of(record) for record in records]
        odd = [name for name, value in zip(names, values, strict=True) if value != values[0]]
        if odd:
            sentences.append(f"Not comparable: the {what} of {', '.join(odd)} differs from that of {names[0]}.")
    if not sentences:  # a further label view leaves out the utterances that it does not ask about
        tested = [record.predictions or record.numbers for record in records]
        first = tested[0]
        odd = [name for name, own in zip(names, tested, strict=True) if own and first and own.keys != first.keys]
        if odd:
            sentences.append(f"Not comparable: {', '.join(odd)} has other test utterances than {names[0]}.")
    return sentences


def differing_settings(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """The settings in which the runs differ, with their values."""
    flat = [dict(flat_facts(record.settings)) for record in records]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    rows = [(key.replace(" ", "."), [settings.get(key, "not set") for settings in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]

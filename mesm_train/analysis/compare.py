"""Runs beside each other: what they scored, what a constant answer scores there, what they compute."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError, MesmError
from mesm_data.storage.json_shapes import read_checked_json
from mesm_train.runs.run import recorded_scores
from mesm_train.training.run_files import OPERATIONS, PROVENANCE

READING = (
    "How to read it: macro F1, accuracy and AUC are means over the classes, on the test part; higher is better. A "
    "model has learnt something if macro F1 is above `constant` (the best constant answer of each class), accuracy "
    "above `always no`, and AUC above 0.5. M MAC: million multiply-adds of a forward pass, see the report."
)
HEAD = ("run", "kind", "macro F1", "constant", "accuracy", "always no", "AUC", "M MAC", "report")


def compare(runs: Sequence[Path], part: str = "test") -> tuple[list[tuple[str, ...]], list[str]]:
    """A row of HEAD for each run, and one sentence for whatever keeps their numbers from standing beside each other.

    M MAC: million multiply-adds of the forward pass on the utterances that the run's report states. Raises InputError
    if a folder is no run, MesmError if one has not been tested.
    """
    facts = [_facts(run) for run in runs]
    rows = [_row(run, fact, part) for run, fact in zip(runs, facts, strict=True)]
    return rows, _differences(runs, facts)


def _facts(run: Path) -> dict[str, Any]:
    if not (run / "provenance.json").exists():
        raise InputError(f"{run} holds no provenance.json, so it is not a run of `mesm-train run`")
    return read_checked_json(run / "provenance.json", PROVENANCE)


def _row(run: Path, facts: dict[str, Any], part: str) -> tuple[str, ...]:
    scores = recorded_scores(run, part) if (run / "thresholds.json").exists() else None
    if scores is None:
        raise MesmError(f"{run} has no scores of its part {part!r} yet: `mesm-train run --resume` brings it to its end")
    mean, floor = scores["mean"], scores["floor"]
    path = run / "operations.json"
    models = read_checked_json(path, OPERATIONS)["models"] if path.exists() else {}
    kind = facts["config"].get("model", {}).get("kind", "-")
    cost = f"{sum(models[kind].values()) / 1e6:.0f}" if kind in models else "-"
    numbers = (mean["f1"], floor["f1"], mean["accuracy"], floor["accuracy"], mean["auc"])
    said = ("-" if number is None else f"{number:.3f}" for number in numbers)
    report = run / "report.html"
    return (run.name, kind, *said, cost, str(report) if report.exists() else "-")


def _differences(runs: Sequence[Path], facts: Sequence[dict[str, Any]]) -> list[str]:
    """Numbers on other data, another split or other questions do not belong into one table."""
    found = []
    for what, path in (
        ("dataset", ("dataset", "root")),
        ("split", ("split", "digest")),
        ("label view", ("labels", "view")),
    ):
        values = [fact[path[0]][path[1]] for fact in facts]
        odd = [run.name for run, value in zip(runs, values, strict=True) if value != values[0]]
        if odd:
            found.append(f"not comparable: {', '.join(odd)} has another {what} than {runs[0].name}")
    if any(fact["dataset"].get("synthetic") for fact in facts):
        found.append("SYNTHETIC data: these numbers say nothing about people, and stand beside no published number")
    return found

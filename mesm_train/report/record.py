"""What a run left in its folder, read so that a report can be made at any time: whatever is missing is remarked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.files import read_json

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run so far. What its folder lacks is empty here, and `remarks` says so, one sentence each."""

    name: str
    settings: Mapping[str, Any]  # the complete config, without places on a disk where the provenance has it
    provenance: Mapping[str, Any]
    thresholds: Mapping[str, Any]
    train: tuple[Line, ...]  # the lines of metrics.jsonl by kind, in order of steps
    valid: tuple[Line, ...]
    test: Line | None  # the last one
    operations: Mapping[str, Any]
    remarks: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits; () if nothing names them."""
        return tuple(self.provenance.get("labels", {}).get("classes", ()) or self.thresholds.get("classes", ()))

    @property
    def best(self) -> Line | None:
        """The validation of the epoch that was kept."""
        return next((line for line in self.valid if line["epoch"] == self.thresholds.get("epoch")), None)


def read(run: Path) -> Record:
    """The record of a run's folder. Raises InputError if there is no such folder."""
    if not run.is_dir():
        raise InputError(f"{run} is not the folder of a run: expected what `mesm-train run --out` wrote")
    remarks: list[str] = []
    provenance = _json(run / "provenance.json", "nothing is known of the data, the code and the machine", remarks)
    settings = provenance.get("config") or _yaml(run / "config.yaml", remarks)
    lines = _lines(run / "metrics.jsonl", remarks)
    tests = [line for line in lines if line["kind"] == "test"]
    if not tests:
        remarks.append("There is no test yet.")
    return Record(
        name=str(settings.get("name") or run.resolve().name),
        settings=settings,
        provenance=provenance,
        thresholds=_json(run / "thresholds.json", "no epoch has been chosen yet", remarks),
        train=_in_order(lines, "train"),
        valid=_in_order(lines, "valid"),
        test=tests[-1] if tests else None,
        operations=_json(run / "operations.json", "operations were not counted", remarks),
        remarks=tuple(remarks),
    )


def _json(path: Path, so: str, remarks: list[str]) -> dict[str, Any]:
    if not path.exists():
        remarks.append(f"There is no {path.name}: {so}.")
        return {}
    try:
        found = read_json(path)
    except InputError:
        found = None
    if not isinstance(found, dict):
        remarks.append(f"{path.name} is damaged: {so}.")
        return {}
    return found


def _yaml(path: Path, remarks: list[str]) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError):
        found = None
    if not isinstance(found, dict):
        remarks.append(f"{path.name} is missing or damaged: the settings are not known.")
        return {}
    return found


def _lines(path: Path, remarks: list[str]) -> list[dict[str, Any]]:
    # {"kind": "train", "epoch": 0, "step": 1, "loss": 0.93, "lr": 0.001, "samples_per_s": 9.5, "data_wait": 0.002}
    if not path.exists():
        remarks.append(f"There is no {path.name}: nothing has been trained yet.")
        return []
    lines, torn = [], 0
    for raw in path.read_bytes().split(b"\n"):
        try:
            found = json.loads(raw) if raw.strip() else None
        except ValueError:
            found, torn = None, torn + 1
        if isinstance(found, dict) and {"kind", "epoch", "step"} <= found.keys():
            lines.append(found)
    if torn:
        remarks.append(
            f"{path.name}: {torn} line{'s' * (torn > 1)} could not be read and {'are' if torn > 1 else 'is'} "
            "left out (a kill tears the last line; `mesm-train run --resume` repairs it)."
        )
    return lines


def _in_order(lines: list[dict[str, Any]], kind: str) -> tuple[Line, ...]:
    """Of two lines about the same step the later one: a resumed run does some steps again."""
    found = {(line["step"], line["epoch"]): line for line in lines if line["kind"] == kind}
    return tuple(found[key] for key in sorted(found))

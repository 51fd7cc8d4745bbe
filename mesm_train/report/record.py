"""What a run left in its folder, read so that a report can be made at any time: whatever is missing is remarked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.storage.files import open_regular_file
from mesm_data.storage.json_shapes import mismatch, read_checked_json
from mesm_train.config.typed_yaml import load_yaml
from mesm_train.training.run_files import OPERATIONS, PROVENANCE, SETTINGS, THRESHOLDS, parse_line

Line = Mapping[str, Any]
PARTIAL_PROVENANCE = {f"{name}?": shape for name, shape in PROVENANCE.items()}  # a report is made at any time


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
    unknown = "nothing is known of the data, the code and the machine"
    provenance = _json(run / "provenance.json", PARTIAL_PROVENANCE, unknown, remarks)
    settings = provenance.get("config") or _yaml(run / "config.yaml", remarks)
    lines = _lines(run / "metrics.jsonl", remarks)
    tests = [line for line in lines if line["kind"] == "test"]
    if not tests:
        remarks.append("There is no test yet.")
    return Record(
        name=str(settings.get("name") or run.resolve().name),
        settings=settings,
        provenance=provenance,
        thresholds=_json(run / "thresholds.json", THRESHOLDS, "no epoch has been chosen yet", remarks),
        train=_in_order(lines, "train"),
        valid=_in_order(lines, "valid"),
        test=tests[-1] if tests else None,
        operations=_json(run / "operations.json", OPERATIONS, "operations were not counted", remarks),
        remarks=tuple(remarks),
    )


def _json(path: Path, shape: Any, so: str, remarks: list[str]) -> dict[str, Any]:
    if not path.exists():
        remarks.append(f"There is no {path.name}: {so}.")
        return {}
    try:
        return read_checked_json(path, shape)
    except InputError:
        remarks.append(f"{path.name} is damaged: {so}.")
        return {}


def _yaml(path: Path, remarks: list[str]) -> dict[str, Any]:
    try:
        with open_regular_file(path) as file:
            settings = load_yaml(file, path.name)
    except (OSError, InputError):
        settings = None
    if mismatch(settings, SETTINGS):
        remarks.append(f"{path.name} is missing or damaged: the settings are not known.")
        return {}
    assert isinstance(settings, dict)
    return settings


def _lines(path: Path, remarks: list[str]) -> list[dict[str, Any]]:
    # {"kind": "train", "epoch": 0, "step": 1, "loss": 0.93, "lr": 0.001, "samples_per_s": 9.5, "data_wait": 0.002}
    if not path.exists():
        remarks.append(f"There is no {path.name}: nothing has been trained yet.")
        return []
    lines, torn = [], 0
    try:
        with open_regular_file(path) as file:
            data = file.read()
    except OSError as error:
        remarks.append(f"{path.name} cannot be read ({error.strerror}).")
        return []
    for raw in filter(bytes.strip, data.split(b"\n")):
        try:
            lines.append(parse_line(raw))
        except ValueError:
            torn += 1
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

"""The files of a run's folder, read so that a report can be made at any time: what is missing becomes a remark."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_schema
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.storage.files import open_regular_file
from mesm_data.storage.json_shapes import mismatch, read_checked_json
from mesm_train.config.core_yaml import load_yaml
from mesm_train.data import input_spec
from mesm_train.report.number_predictions import NumberPredictions, read_number_predictions
from mesm_train.report.predictions import Predictions, read_predictions
from mesm_train.training.run_files import OPERATIONS, PROVENANCE, SETTINGS, THRESHOLDS, parse_line
from mesm_train.training.sessions import Session, read_sessions

Line = Mapping[str, Any]
PARTIAL_PROVENANCE = {f"{name}?": shape for name, shape in PROVENANCE.items()}  # a report is made at any time


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run so far. What its folder lacks is empty here, and `remarks` says so, one sentence each."""

    name: str
    folder: str  # its last part
    settings: Mapping[str, Any]  # the complete config, without places on a disk where the provenance has it
    provenance: Mapping[str, Any]
    thresholds: Mapping[str, Any]
    train: tuple[Line, ...]  # the lines of metrics.jsonl by kind, in order of steps
    valid: tuple[Line, ...]
    test: Line | None  # the last one
    operations: Mapping[str, Any]
    sessions: tuple[Session, ...]
    predictions: Predictions | None  # of the test part, if it has classes
    numbers: NumberPredictions | None  # likewise, if it has numbers
    used: Mapping[str, int]  # part -> its utterances inside the label views, where that is recorded
    known_titles: Mapping[str, str]
    remarks: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits; () if nothing names them."""
        return tuple(self.provenance.get("labels", {}).get("classes", ()) or self.thresholds.get("classes", ()))

    @property
    def primary_classes(self) -> tuple[str, ...]:
        """The classes of the first label view, which scores, groups and mistakes are about."""
        line = self.test or self.best or (self.valid[-1] if self.valid else None)
        names = line["metrics"].get("classes") or line["metrics"].get("numbers") if line else None
        return tuple(names) if names else self.classes

    @property
    def task(self) -> str | None:
        """Of the first label view: binary, multiclass or number; None before the first validation."""
        line = self.test or self.best or (self.valid[-1] if self.valid else None)
        return line["metrics"]["task"] if line else None

    @property
    def kinds(self) -> Mapping[str, str]:
        """Label view -> binary, multiclass or number, the first one first; empty if nothing names them."""
        return {head["view"]: head["kind"] for head in self.provenance.get("labels", {}).get("heads", ())}

    @property
    def number_outputs(self) -> frozenset[str]:
        """Those of `classes` that are numbers; of a view that is not the first, its name stands before theirs."""
        primary = self.primary_classes if self.task == "number" else ()
        views = tuple(f"{view}." for view in list(self.kinds)[1:] if self.kinds[view] == "number")
        return frozenset((*primary, *(name for name in self.classes if views and name.startswith(views))))

    @property
    def titles(self) -> tuple[str, ...]:
        """`primary_classes` spelled out as the corpus' schema does; their names where it does not."""
        return tuple(self.known_titles.get(name) or name for name in self.primary_classes)

    @property
    def synthetic(self) -> bool | None:
        """Whether a program made the data; None if that is not recorded."""
        value: bool | None = self.provenance.get("dataset", {}).get("synthetic")
        return value

    @property
    def best(self) -> Line | None:
        """The validation of the epoch that was kept."""
        return next((line for line in self.valid if line["epoch"] == self.thresholds.get("epoch")), None)


def read_record(run: Path) -> Record:
    """The record of a run's folder. Raises InputError if there is no such folder."""
    if not run.is_dir():
        raise InputError(f"{run} is not the folder of a run: expected what `mesm-train run --out` wrote")
    remarks: list[str] = []
    unknown = "nothing is known of the data, the code and the machine"
    provenance = _json(run / "provenance.json", PARTIAL_PROVENANCE, unknown, remarks)
    settings = provenance.get("config") or _yaml(run / "config.yaml", remarks)
    lines = _lines(run / "metrics.jsonl", remarks)
    tests = [line for line in lines if line["kind"] == "test"]
    thresholds = _json(run / "thresholds.json", THRESHOLDS, "no epoch has been chosen yet", remarks)
    predictions, numbers = _predictions(run, thresholds, tests, remarks)
    valid = _in_order(lines, "valid")
    if not tests:
        remarks.append("There is no test yet.")
    return Record(
        name=str(settings.get("name") or run.resolve().name),
        folder=run.resolve().name,
        settings=settings,
        provenance=provenance,
        thresholds=thresholds,
        train=_in_order(lines, "train"),
        valid=valid,
        test=tests[-1] if tests else None,
        operations=_json(run / "operations.json", OPERATIONS, "operations were not counted", remarks),
        sessions=tuple(read_sessions(run)),
        predictions=predictions,
        numbers=numbers,
        used=_used(run, valid, tests),
        known_titles=_built_in_titles(provenance.get("dataset", {}).get("corpus", "")),
        remarks=tuple(remarks),
    )


def _used(run: Path, valid: tuple[Line, ...], tests: Sequence[Line]) -> dict[str, int]:
    """Part -> its utterances inside the label views, as far as training has come."""
    used = {part: lines[-1]["metrics"]["n"] for part, lines in (("valid", valid), ("test", tests)) if lines}
    path = run / input_spec.FILE
    with suppress(InputError):  # a report is made at any time; `predict` names the file
        if path.exists():
            used["train"] = read_checked_json(path, {"train": {"utterances": int}})["train"]["utterances"]
    return used


def value_titles(schema: CorpusSchema) -> dict[str, str]:
    """What the values of a corpus' labels mean, as its schema spells them out: ang is Anger."""
    return {value: title for scheme in schema.labels.values() for value, title in scheme.values.items() if title}


def _built_in_titles(corpus: str) -> dict[str, str]:
    try:
        return value_titles(built_in_schema(corpus))
    except InputError:
        return {}


def _predictions(
    run: Path, thresholds: Mapping[str, Any], tests: list[dict[str, Any]], remarks: list[str]
) -> tuple[Predictions | None, NumberPredictions | None]:
    """The predictions on test, of classes or of numbers."""
    path = run / "predictions-test.parquet"
    if not tests or not thresholds or not path.exists():
        return None, None
    scores = tests[-1]["metrics"]
    try:
        if scores["task"] == "number":
            return None, read_number_predictions(path, list(scores["numbers"]))
        return read_predictions(path, scores, thresholds), None
    except InputError as error:
        remarks.append(f"There are no intervals, groups and mistakes: {str(error).replace(str(path), path.name)}.")
        return None, None


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
    by_step = {(line["step"], line["epoch"]): line for line in lines if line["kind"] == kind}
    return tuple(by_step[key] for key in sorted(by_step))

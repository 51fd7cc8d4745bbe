"""The JSON files of a run, read and checked before anything of them is used: a run may come from anybody.

A shape says what of a file is used and of which type it is. What a file holds beside that is kept and not checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from mesm_data.errors import InputError
from mesm_data.files import parse_json, read_json
from mesm_train.metrics import METRICS

DEPTH = 50  # of nesting


@dataclass(frozen=True, slots=True)
class Each:
    """An object with any keys, all of whose values have one shape."""

    shape: Any


NUMBER = (int, float)
SCORE = (int, float, NoneType)  # None: not defined

_FLOOR = {"accuracy": SCORE, "f1": SCORE}
_SCORES = dict.fromkeys(METRICS, SCORE)
METRICS_SHAPE = {
    "n": int,
    "classes": Each({"support": int, "threshold": NUMBER, **_SCORES, "floor": _FLOOR}),
    "mean": _SCORES,
    "floor": _FLOOR,
    "undefined?": {f"{metric}?": [str] for metric in METRICS},
    "single?": {"accuracy": SCORE, "recall": SCORE, "confusion": [[int]]},
}
_LINE = {"kind": str, "epoch": int, "step": int}
LINES = {
    "train": {**_LINE, **{f"{name}?": SCORE for name in ("loss", "lr", "samples_per_s", "data_wait", "seconds")}},
    "valid": {**_LINE, "loss": SCORE, "metrics": METRICS_SHAPE},
    "test": {**_LINE, "loss": SCORE, "metrics": METRICS_SHAPE},
}
SETTINGS = {
    "name?": str,
    "model?": {"kind?": str, "sparse?": {"p?": NUMBER, "selection?": str}},
    "optim?": {"pos_weight?": bool},
    "report?": {"media?": bool},
}
PROVENANCE = {
    "dataset": {"corpus": str, "root": str, "format": int, "synthetic?": bool},
    "split": {"name": str, "digest": str, "counts?": Each(int), "missing?": Each(int), "leaks?": Each(int)},
    "labels": {"view": str, "classes": [str]},
    "config": SETTINGS,
}
THRESHOLDS = {"classes": [str], "thresholds": [NUMBER], "epoch": int, "pos_weight?": [NUMBER]}
OPERATIONS = {"input?": Each(int), "models": Each(Each(int)), "kept?": Each([NUMBER])}
LAST = {"step": int}
BEST = {"step": int, "kept": [{"step": int, "score": NUMBER}]}


def read_run_json(path: Path, shape: Any) -> dict[str, Any]:
    """A JSON file of a run. Raises InputError that names the file and what of it is missing or of another type."""
    value = read_json(path)
    if problem := mismatch(value, shape):
        raise InputError(f"{path} is damaged, or not of a run: {problem}")
    found: dict[str, Any] = value
    return found


def parse_line(raw: bytes) -> dict[str, Any]:
    """A line of metrics.jsonl. Raises ValueError that says what is wrong with it."""
    line = parse_json(raw)
    kind = line.get("kind") if isinstance(line, dict) else None
    if problem := mismatch(line, LINES.get(kind, _LINE) if isinstance(kind, str) else _LINE):
        raise ValueError(problem)
    single = line.get("metrics", {}).get("single") if kind in ("valid", "test") else None
    if single:
        count = len(line["metrics"]["classes"])
        if [len(row) for row in single["confusion"]] != [count] * count:
            raise ValueError(f"metrics.single.confusion is not a table of {count} classes")
    found: dict[str, Any] = line
    return found


def mismatch(value: Any, shape: Any, key: str = "") -> str | None:
    """The first place where `value` is not of `shape`, as the end of a sentence; None if there is none."""
    if not key and _is_deeper(value, DEPTH):
        return f"it is nested more than {DEPTH} levels deep"
    name = key[:200] or "it"
    if isinstance(shape, dict | Each):
        if not isinstance(value, dict):
            return f"{name} is not an object"
        if isinstance(shape, Each):
            inner = dict.fromkeys(value, shape.shape)
        else:
            inner = {name.removesuffix("?"): each for name, each in shape.items()}
            missing = [name for name in shape if not name.endswith("?") and name not in value]
            if missing:
                return f"{_dotted(key, missing[0])} is missing"
        there = {name: each for name, each in inner.items() if name in value}
        problems = (mismatch(value[name], each, _dotted(key, name)) for name, each in there.items())
        return next((problem for problem in problems if problem), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{name} is not a list"
        problems = (mismatch(item, shape[0], f"{name}[{index}]") for index, item in enumerate(value))
        return next((problem for problem in problems if problem), None)
    kinds = shape if isinstance(shape, tuple) else (shape,)
    if type(value) not in kinds or (type(value) is int and abs(value) >= 2**63):
        return f"{name} is not {' or '.join(_KINDS[kind] for kind in kinds)}"
    return None


_KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)


def _dotted(key: str, name: str) -> str:
    return f"{key}.{name}"[:200] if key else name[:200]

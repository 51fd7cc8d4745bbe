"""The shapes of the JSON files of a run (see mesm_data.storage.json_shapes): a run may come from anybody."""

from types import NoneType
from typing import Any

from mesm_data.storage.json_files import parse_json
from mesm_data.storage.json_shapes import NUMBER, MapOf, mismatch
from mesm_train.evaluation.metrics import METRICS

SCORE = (int, float, NoneType)  # None: not defined

_FLOOR = {"accuracy": SCORE, "f1": SCORE}
_SCORES = dict.fromkeys(METRICS, SCORE)
METRICS_SHAPE = {
    "n": int,
    "classes": MapOf({"support": int, "threshold": NUMBER, **_SCORES, "floor": _FLOOR}),
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
    "dataset": {
        "corpus": str,
        "root": str,
        "format": int,
        "synthetic?": bool,
        "licence?": {"name?": str, "terms?": str, "issuer?": str},
    },
    "split": {"name": str, "digest": str, "counts?": MapOf(int), "missing?": MapOf(int), "leaks?": MapOf(int)},
    "labels": {"view": str, "classes": [str]},
    "config": SETTINGS,
}
THRESHOLDS = {"classes": [str], "thresholds": [NUMBER], "epoch": int, "pos_weight?": [NUMBER]}
OPERATIONS = {"input?": MapOf(int), "models": MapOf(MapOf(int)), "kept?": MapOf([NUMBER])}
LAST = {"step": int}
BEST = {"step": int, "kept": [{"step": int, "score": NUMBER}]}


def parse_line(raw: bytes) -> dict[str, Any]:
    """Parse a line of metrics.jsonl. Raises ValueError that describes the problem."""
    line = parse_json(raw)
    kind = line.get("kind") if isinstance(line, dict) else None
    if problem := mismatch(line, LINES.get(kind, _LINE) if isinstance(kind, str) else _LINE):
        raise ValueError(problem)
    single = line.get("metrics", {}).get("single") if kind in ("valid", "test") else None
    if single:
        count = len(line["metrics"]["classes"])
        if [len(row) for row in single["confusion"]] != [count] * count:
            raise ValueError(f"metrics.single.confusion is not a table of {count} classes")
    record: dict[str, Any] = line
    return record

"""The shapes of the JSON files of a run (see mesm_data.storage.json_shapes): a run may come from anybody."""

from types import NoneType
from typing import Any

from mesm_data.storage.json_files import parse_json
from mesm_data.storage.json_shapes import NUMBER, MapOf, mismatch
from mesm_train.evaluation.number_scores import NUMBER_METRICS
from mesm_train.evaluation.scores import CLASS_METRICS, MULTICLASS_METRICS

SCORE = (int, float, NoneType)  # None: not defined

_BASELINES = MapOf(MapOf(SCORE))
_CLASS_SCORES = dict.fromkeys(CLASS_METRICS, SCORE)
_CLASSES_SHAPE = {
    "n": int,
    "classes": MapOf({"support": int, "threshold": SCORE, **_CLASS_SCORES, "baselines": _BASELINES}),
    "mean": _CLASS_SCORES,
    "baselines": _BASELINES,
    "undefined?": {f"{metric}?": [str] for metric in CLASS_METRICS},
    "multiclass?": {
        **dict.fromkeys(MULTICLASS_METRICS, SCORE), "ece": SCORE, "confusion": [[int]], "baselines": _BASELINES,
    },
}  # fmt: skip
_NUMBER_SCORES = dict.fromkeys(NUMBER_METRICS, SCORE)
METRICS_SHAPES = {  # by task
    "binary": _CLASSES_SHAPE,
    "multiclass": _CLASSES_SHAPE,
    "number": {
        "n": int,
        "numbers": MapOf({**_NUMBER_SCORES, "baselines": _BASELINES, "sentiment?": MapOf(SCORE)}),
        "mean": _NUMBER_SCORES,
        "baselines": _BASELINES,
    },
}
_LINE = {"kind": str, "epoch": int, "step": int}
LINES = {
    "train": {**_LINE, **{f"{name}?": SCORE for name in ("loss", "lr", "samples_per_s", "data_wait", "seconds")}},
    "valid": {**_LINE, "loss": SCORE, "metrics": {"task": str, "further?": MapOf({"task": str})}},
    "test": {**_LINE, "loss": SCORE, "metrics": {"task": str, "further?": MapOf({"task": str})}},
}
SETTINGS = {
    "name?": str,
    "model?": {"kind?": str, "modalities?": [str], "sparse?": {"p?": NUMBER, "selection?": str, "tile?": int}},
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
    "labels": {"view": str, "classes": [str], "heads?": [{"view": str, "kind": str}]},
    "seed": int,
    "config": SETTINGS,
    "environment?": {"gpu?": (str, NoneType), "cpu?": (str, NoneType), "threads?": (int, NoneType)},
}
THRESHOLDS = {
    "classes": [str], "thresholds": [NUMBER], "epoch": int,
    "pos_weight?": [NUMBER], "offset?": [NUMBER], "scale?": [NUMBER],
}  # fmt: skip
OPERATIONS = {"input?": MapOf(int), "models": MapOf(MapOf(int)), "kept?": MapOf([NUMBER]), "parameters?": MapOf(int)}
LAST = {"step": int}
BEST = {"step": int, "kept": [{"step": int, "score": NUMBER}]}


def parse_line(raw: bytes) -> dict[str, Any]:
    """Parse a line of metrics.jsonl. Raises ValueError that describes the problem."""
    line = parse_json(raw)
    kind = line.get("kind") if isinstance(line, dict) else None
    if problem := mismatch(line, LINES.get(kind, _LINE) if isinstance(kind, str) else _LINE):
        raise ValueError(problem)
    if kind in ("valid", "test"):
        for name, scores in {"metrics": line["metrics"], **line["metrics"].get("further", {})}.items():
            check_scores(name, scores)
    record: dict[str, Any] = line
    return record


def check_scores(name: str, scores: dict[str, Any]) -> None:
    """Raises ValueError if a table of scores, which has a task, is not of the shape of that task."""
    shape = METRICS_SHAPES.get(scores["task"])
    if shape is None:
        raise ValueError(f"{name}.task is none of {', '.join(METRICS_SHAPES)}")
    if problem := mismatch(scores, shape, name):
        raise ValueError(problem)
    if "multiclass" in scores:
        count = len(scores["classes"])
        if [len(row) for row in scores["multiclass"]["confusion"]] != [count] * count:
            raise ValueError(f"{name}.multiclass.confusion is not a table of {count} classes")

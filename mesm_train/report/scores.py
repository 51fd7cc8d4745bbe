"""What the report shows of scores: headline, classes, confusion, calibration, and groups of utterances."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesm_train.evaluation.metrics import reliability
from mesm_train.report import figures
from mesm_train.report.predictions import Interval, Predictions, Resampled, percentile_interval
from mesm_train.report.record import Record

METRICS = {  # metric -> its heading
    "f1": "F1", "balanced_accuracy": "Balanced acc.", "accuracy": "Accuracy", "auc": "AUC",
    "average_precision": "AP", "ece": "ECE",
}  # fmt: skip
NUMBER_METRICS = {"ccc": "CCC", "pearson": "Pearson's r", "mae": "MAE"}
DURATIONS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds, where groups begin
MAX_GROUPS = 20
BINS = 10  # of the reliability diagram
NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceFacts:
    """What groups are made of."""

    speaker: str
    seconds: float
    faces: int
    detected: int  # faces in which one was detected


def scores_section(record: Record, resampled: Resampled | None) -> dict[str, Any] | None:
    """The scores on test, or while there is none, of the epoch that is the best so far on the validation part."""
    line = record.test or record.best or (record.valid[-1] if record.valid else None)
    if line is None:
        return None
    scores, is_test = line["metrics"], line["kind"] == "test"
    head = {"is_test": is_test, "n": scores["n"], "epoch": line["epoch"], "task": scores["task"]}
    further = {name: _mean_row(other) for name, other in scores.get("further", {}).items()}
    if scores["task"] == "number":
        return {**head, "further": further, **_number_section(scores)}
    drawn = resampled if is_test else None
    titles = record.known_titles
    classes = [
        _class_row(scores, titles.get(name, name), name, index, drawn) for index, name in enumerate(scores["classes"])
    ]
    return {
        **head,
        "further": further,
        "cards": list(_headline(scores, drawn)),
        "metrics": METRICS,
        "classes": classes,
        "mean": scores["mean"],
        "baselines": scores["baselines"],
        "mean_interval": drawn and drawn.of_mean("f1"),
        "undefined": _undefined(scores.get("undefined", {}), titles),
        "confusion": _confusion(scores, titles) if scores.get("multiclass") else None,
        "calibration": _calibration(record.predictions, scores["mean"]["ece"]) if is_test else None,
    }


def _headline(scores: Mapping[str, Any], drawn: Resampled | None) -> Iterator[dict[str, Any]]:
    mean, baselines = scores["mean"], scores["baselines"]

    def card(name: str, value: float | None, baseline: float | None, of: str, interval: Interval | None) -> Any:
        difference = None if value is None or baseline is None else 100 * (value - baseline)
        return {
            "name": name, "value": value, "baseline": baseline, "of": of, "interval": interval,
            "difference": difference,
        }  # fmt: skip

    def interval(metric: str) -> Interval | None:
        return drawn.of_mean(metric) if drawn else None

    yield card("Macro F1", mean["f1"], trivial(baselines, "always_yes", "f1"), "always yes", interval("f1"))
    balanced = mean["balanced_accuracy"]
    yield card("Balanced accuracy", balanced, 0.5, "any constant answer", interval("balanced_accuracy"))
    if single := scores.get("multiclass"):
        often = trivial(single["baselines"], "majority", "accuracy")
        right = percentile_interval(drawn.right) if drawn and drawn.right is not None else None
        yield card("Most probable class is right", single["accuracy"], often, "most frequent class", right)
    else:
        always_no = trivial(baselines, "always_no", "accuracy")
        yield card("Accuracy", mean["accuracy"], always_no, "always no", interval("accuracy"))
    yield card("AUC", mean["auc"], None if mean["auc"] is None else 0.5, "chance", interval("auc"))


def trivial(baselines: Mapping[str, Mapping[str, float | None]], name: str, metric: str) -> float | None:
    """The score of one trivial baseline; None if it is not recorded."""
    return baselines.get(name, {}).get(metric)


def _mean_row(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The means of a further label view."""
    titles = NUMBER_METRICS if scores["task"] == "number" else METRICS
    return {"n": scores["n"], "means": [(title, scores["mean"].get(metric)) for metric, title in titles.items()]}


def _number_section(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of numbers: a row for each, with the trivial baselines always mean and always median."""
    rows = [
        {
            "title": name,
            "scores": {metric: of[metric] for metric in NUMBER_METRICS},
            "baseline": trivial(of["baselines"], "median", "mae"),
            "sentiment": of.get("sentiment", {}),
        }
        for name, of in scores["numbers"].items()
    ]
    return {"numbers": rows, "mean": scores["mean"], "metrics": NUMBER_METRICS}


def _class_row(scores: Mapping[str, Any], title: str, name: str, index: int, drawn: Resampled | None) -> dict[str, Any]:
    """A row of the table: the scores, and of each the trivial baseline of the same class.

    A constant answer has a balanced accuracy and an AUC of .5, and as average precision the share of the class.
    """
    row = scores["classes"][name]
    share = row["support"] / max(scores["n"], 1)
    baselines = {
        "f1": trivial(row["baselines"], "always_yes", "f1"),
        "accuracy": trivial(row["baselines"], "always_no", "accuracy"),
        "balanced_accuracy": 0.5,
        "auc": 0.5,
        "average_precision": share,
    }
    return {
        "title": title,
        "name": name,
        "support": row["support"],
        "share": share,
        "threshold": row["threshold"],
        "baselines": baselines,
        "scores": {metric: row[metric] for metric in METRICS},
        "low": {metric: is_low(row[metric], baselines.get(metric)) for metric in METRICS},
        "interval": drawn.of_class("f1", index) if drawn else None,
    }


def is_low(value: float | None, baseline: float | None) -> bool:
    """Whether a trivial baseline does as well."""
    return value is not None and baseline is not None and value <= baseline + 1e-12


def _undefined(metrics: Mapping[str, Sequence[str]], titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """Which means leave out which classes: (classes, metrics)."""
    known = {metric: tuple(classes) for metric, classes in metrics.items() if metric in METRICS}
    return [
        (
            ", ".join(titles.get(name, name) for name in classes),
            ", ".join(METRICS[metric] for metric, those in known.items() if those == classes),
        )
        for classes in dict.fromkeys(known.values())
    ]


def _confusion(scores: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, Any]:
    """Counts, true class down, predicted class across; `shade` is the share of the true class."""
    rows = []
    names = [titles.get(name, name) for name in scores["classes"]]
    for index, (name, counts) in enumerate(zip(names, scores["multiclass"]["confusion"], strict=True)):
        total = sum(counts)
        cells = [{"count": count, "shade": round(0.6 * count / total, 2) if total else 0} for count in counts]
        rows.append({"name": name, "cells": cells, "right": index, "recall": counts[index] / total if total else None})
    return {"names": names, "rows": rows, "recall": scores["multiclass"]["balanced_accuracy"]}


def _calibration(predictions: Predictions | None, error: float | None) -> dict[str, Any] | None:
    """The reliability diagram over all classes, and the mean of the classes' calibration errors."""
    if predictions is None:
        return None
    bins = reliability(predictions.probabilities.ravel(), predictions.targets.ravel(), BINS)
    counts, predicted, observed = bins[bins[:, 0] > 0].T.tolist()
    return {"figure": figures.reliability(predicted, observed, counts), "error": error}


def groups_section(record: Record, facts: Mapping[str, UtteranceFacts]) -> list[dict[str, Any]]:
    """Scores of the test part by speaker, by duration and by detected faces."""
    if record.predictions is None or not facts:
        return []
    predictions, classes = record.predictions, record.primary_classes
    kinds: dict[str, Callable[[UtteranceFacts], str]] = {
        "Speaker": lambda one: one.speaker,
        "Duration": lambda one: _duration_group(one.seconds),
        "Faces": _face_group,
    }
    tables = []
    for title, group_of in kinds.items():
        groups: dict[str, list[int]] = {}
        for number, key in enumerate(predictions.keys):
            if key in facts:
                groups.setdefault(group_of(facts[key]), []).append(number)
        largest = sorted(groups, key=lambda name: (-len(groups[name]), name))[:MAX_GROUPS]
        names = [name for name in DURATION_GROUPS if name in groups] if title == "Duration" else sorted(largest)
        rows = [_group_row(name, predictions.take(groups[name]), classes) for name in names]
        tables.append({"title": title, "rows": rows, "left_out": len(groups) - len(names)})
    return tables


def _group_row(name: str, predictions: Predictions, classes: Sequence[str]) -> dict[str, Any]:
    scores, n = predictions.scores(classes), len(predictions.keys)
    baselines = scores["baselines"]
    row = {"name": name, "n": n, "f1": scores["mean"]["f1"], "f1_baseline": trivial(baselines, "always_yes", "f1")}
    if predictions.exclusive:
        right, often = scores["multiclass"]["accuracy"], scores["multiclass"]["baselines"]["majority"]["accuracy"]
        return {**row, "value": right, "baseline": often, "interval": wilson(right, n)}
    always_no = trivial(baselines, "always_no", "accuracy")
    return {**row, "value": scores["mean"]["accuracy"], "baseline": always_no, "interval": None}


def wilson(share: float, n: int) -> Interval:
    """Wilson's 95 % interval of a share of n."""
    z2 = NORMAL_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _duration_group(seconds: float) -> str:
    position = sum(seconds >= edge for edge in DURATIONS)
    if position == 0:
        return f"under {DURATIONS[0]:g} s"
    if position == len(DURATIONS):
        return f"{DURATIONS[-1]:g} s and more"
    return f"{DURATIONS[position - 1]:g} to {DURATIONS[position]:g} s"


DURATION_GROUPS = [_duration_group(seconds) for seconds in (0.0, *DURATIONS)]


def _face_group(one: UtteranceFacts) -> str:
    if not one.faces:
        return "no frame"
    if one.detected == one.faces:
        return "detected in every frame"
    return "detected in some frames" if one.detected else "detected in no frame"

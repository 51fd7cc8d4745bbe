"""The scores of a run as HTML: on test beside what a constant answer reaches, by class, and one utterance's answers."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mesm_train.evaluation.thresholds import apply_thresholds
from mesm_train.report.markup import Html, el, table
from mesm_train.report.record import Record
from mesm_train.report.site_selection import WORDS, Seen

UNTESTED = (
    "There is no test yet. These are scores on the part that chose the epoch and the thresholds: they flatter the "
    "model."
)
CONFUSED = (
    "Utterances by their most probable class: true class down, answered class across, shaded by the share of "
    "the true class."
)
COLUMNS = {  # the metric: its heading, and where it has one, the heading of its floor
    "accuracy": ("Accuracy", "always no"),
    "balanced_accuracy": ("Balanced acc.", None),
    "f1": ("F1", "always yes"),
    "auc": ("AUC", None),
    "average_precision": ("AP", None),
}


def section(record: Record) -> Iterator[Html]:
    """The scores on test, or while there is none, of the epoch that is the best so far on the validation part."""
    line = record.test or record.best or (record.valid[-1] if record.valid else None)
    if line is None:
        yield el("h2", "Scores")
        yield el("p", "Nothing has been scored yet.")
        return
    found = line["metrics"]
    part = "Test" if line["kind"] == "test" else "Validation"
    yield el("h2", f"{part}: {found['n']} utterances, weights of epoch {line['epoch']}")
    if line["kind"] != "test":
        yield el("p", UNTESTED)
    if found["task"] == "number":
        yield el("div", numbers(found), class_="wide")
        return
    yield el("div", *_headline(found), class_="scores")
    yield el("p", "Scores in percent; coloured where a constant answer does as well.", class_="faint")
    yield el("div", by_class(found), class_="wide")
    yield from undefined(found.get("undefined", {}))
    if found.get("multiclass"):
        yield el("h3", "Confusion")
        balanced = percent(found["multiclass"]["balanced_accuracy"])
        yield el("p", f"{CONFUSED} Balanced accuracy: {balanced} %.", class_="faint")
        yield el("div", confusion(found["multiclass"], list(found["classes"])), class_="wide")


def undefined(metrics: Mapping[str, list[str]]) -> Iterator[Html]:
    """Which means leave out which classes."""
    known = {metric: tuple(classes) for metric, classes in metrics.items() if metric in COLUMNS}
    for absent in dict.fromkeys(known.values()):
        names = ", ".join(COLUMNS[metric][0] for metric, classes in known.items() if classes == absent)
        yield el("p", f"Not defined for {', '.join(absent)}, and without them in the mean: {names}.", class_="faint")


def percent(value: float | None) -> str:
    """A share as percent with one decimal, without the sign; a dash for what is not defined."""
    return "–" if value is None else f"{100 * value:.1f}"


def _headline(found: Mapping[str, Any]) -> Iterator[Html]:
    mean, floor = found["mean"], _constant(found["baselines"])
    yield _score("Macro F1", mean["f1"], floor["f1"], "best constant answer")
    yield _score("Mean accuracy", mean["accuracy"], floor["accuracy"], "always answering no")
    yield _score("Mean AUC", mean["auc"], None if mean["auc"] is None else 0.5, "chance")
    if found.get("multiclass"):
        supports = [of["support"] for of in found["classes"].values()]
        often = max(supports) / found["n"] if supports and found["n"] else None
        yield _score(
            "Accuracy, most probable class", found["multiclass"]["accuracy"], often, "always the most frequent"
        )


def _constant(baselines: Mapping[str, Any]) -> dict[str, float | None]:
    """The best constant prediction of each metric that has one."""
    return {"accuracy": baselines["always_no"]["accuracy"], "f1": baselines["always_yes"]["f1"]}


def numbers(found: Mapping[str, Any]) -> Html:
    """The scores of a view of numbers, beside always the median."""
    rows = [
        [name, *(_plain(of[metric]) for metric in ("mae", "pearson", "ccc")), _plain(of["baselines"]["median"]["mae"])]
        for name, of in found["numbers"].items()
    ]
    return table(["Number", "MAE", "Pearson's r", "CCC", "MAE of always the median"], rows)


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _score(name: str, value: float | None, floor: float | None, of: str) -> Html:
    beside = (
        []
        if value is None or floor is None
        else [f"{of} {percent(floor)}", f"difference {_signed(100 * (value - floor), 1)}"]
    )
    return el("div", el("span", name), el("b", percent(value)), *(el("span", line, class_="faint") for line in beside))


def by_class(found: Mapping[str, Any]) -> Html:
    """All metrics of all classes, with floors, and their means."""
    head = ["Class", "Support", "Threshold"]
    for name, floor in COLUMNS.values():
        head += [name, floor] if floor else [name]
    rows = [
        [
            name,
            str(of["support"]),
            "–" if of["threshold"] is None else f"{of['threshold']:.2f}",
            *_metrics(of, _constant(of["baselines"]), of["support"] / max(found["n"], 1)),
        ]
        for name, of in found["classes"].items()
    ]
    return table(head, rows, ["Mean", "", "", *_metrics(found["mean"], _constant(found["baselines"]), None)])


def _metrics(of: Mapping[str, Any], floor: Mapping[str, Any], share: float | None) -> Iterator[Html]:
    """The cells of COLUMNS. A constant answer has a weighted accuracy and AUC of .5, and the class's `share` as AP."""
    reached = {"balanced_accuracy": 0.5, "auc": 0.5, "average_precision": share, **floor}
    for metric, (_, named) in COLUMNS.items():
        value, least = of[metric], reached[metric]
        low = value is not None and least is not None and value <= least + 1e-12
        yield el("td", percent(value), class_="low" if low else None)
        if named:
            yield el("td", percent(least), class_="floor")


def confusion(single: Mapping[str, Any], classes: list[str]) -> Html:
    """Counts, true class down, answered class across; shaded by the share of the true class."""
    rows = []
    for index, (name, counts) in enumerate(zip(classes, single["confusion"], strict=True)):
        total = sum(counts)
        cells = [
            el("td", str(count), class_="right" if at == index else None,
               style=f"background: rgb(var(--tint) / {0.55 * count / total if total else 0:.2f})")
            for at, count in enumerate(counts)
        ]  # fmt: skip
        rows.append([name, *cells, percent(counts[index] / total if total else None)])
    return table(["True", *classes, "Recall, %"], rows, class_="confusion")


def answers(record: Record, one: Seen, weights: Mapping[str, float]) -> Html:
    """One utterance's logits by modality, their fusion, and what was answered with the run's thresholds."""
    names, limits = list(record.classes), record.thresholds.get("thresholds")
    if len(names) != len(one.logits):  # nothing names them, or files of another run do
        names = [f"class {n}" for n in range(1, len(one.logits) + 1)]
    limits = limits if limits and len(limits) == len(names) else None
    said = ["–"] * len(names) if limits is None else [_yes(answer) for answer in apply_thresholds(one.logits, limits)]
    head = [f"{WORDS[m].capitalize()}{f' × {_signed(weights[m])}' if m in weights else ''}" for m in one.amounts]
    rows = [
        [
            name,
            *(_signed(one.branches[m][n]) if m in one.branches else "–" for m in one.amounts),
            _signed(logit),
            f"{1 / (1 + np.exp(-logit)):.2f}",
            "–" if limits is None else f"{limits[n]:.2f}",
            said[n],
            _yes(true),
        ]
        for n, (name, logit, true) in enumerate(zip(names, one.logits, one.truth, strict=True))
    ]
    return table(["Logits", *head, "Fused", "Probability", "Threshold", "Answer", "True"], rows)


def _yes(true: bool) -> Html:
    return el("td", "yes", class_="yes") if true else el("td", "no", class_="floor")


def _signed(value: float, places: int = 2) -> str:
    return f"{round(value, places) + 0.0:+.{places}f}".replace("-", "−")

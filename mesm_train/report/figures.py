"""Figures without pyplot, so that nothing is left behind: SVG that takes the page's colours, or PNG for a file."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

Line = Mapping[str, Any]
MAX_POINTS = 400  # of a drawn line; longer series are averaged over neighbours
NO_METADATA: dict[str, Any] = {"Software": None}  # or the same picture differs by the version of matplotlib
SERIES = 6  # colours of runs that are drawn together


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """The colours of a figure."""

    paper: str
    ink: str
    faint: str
    line: str
    series: tuple[str, ...]


# Each of these stands for a CSS variable of the page, which decides by itself between light and dark.
CSS = {"#010101": "--card", "#020202": "--ink", "#030303": "--faint", "#040404": "--line"}
CSS |= {f"#0505{number:02x}": f"--series-{number}" for number in range(SERIES)}
PAGE = Theme(paper="none", ink="#020202", faint="#030303", line="#040404", series=tuple(list(CSS)[4:]))
LIGHT = Theme(paper="#ffffff", ink="#1c1f23", faint="#6b7178", line="#dcdfe3", series=("#2d5fb3",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The lines of metrics.jsonl of one run; `best_step`: of the epoch that was kept."""

    name: str
    train: Sequence[Line]
    valid: Sequence[Line]
    best_step: int | None


def curves(runs: Sequence[Curve]) -> str:
    """Loss on both parts, macro F1 or CCC with the trivial baseline, and learning rate over the steps, as SVG.

    Train and validation loss have axes of their own: classes may be weighted in the one and never are in the other.
    """
    figure = _figure(10.4, 4.6, PAGE)
    figure.subplots_adjust(left=0.055, right=0.99, bottom=0.09, top=0.94, wspace=0.13, hspace=0.2)
    (loss, valid_loss), (score, rate) = figure.subplots(2, 2, sharex=True)
    several = len(runs) > 1
    _panel(loss, "Train loss", PAGE)
    _panel(valid_loss, "Validation loss", PAGE)
    numbers = any(line["metrics"]["task"] == "number" for run in runs for line in run.valid)
    metric, title = ("ccc", "Validation CCC") if numbers else ("f1", "Validation macro F1")
    constant = "any constant" if numbers else "always yes"
    _panel(score, title + ("" if several else f"; dashed: {constant}"), PAGE)
    _panel(rate, "Learning rate", PAGE)
    for number, run in enumerate(runs):
        color = PAGE.series[number % SERIES]
        steps, losses = _series(run.train, "step"), _series(run.train, "loss")
        if len(losses) >= 80:
            width = len(losses) // 40
            smooth = np.convolve(losses, np.ones(width) / width, "valid")
            if not several:
                loss.plot(*_thin(steps, losses), color=PAGE.line, linewidth=0.8)
            loss.plot(*_thin(steps[width - 1 :], smooth), color=color, linewidth=1.4)
        else:
            loss.plot(steps, losses, color=color, linewidth=1.4)
        at = _series(run.valid, "step")
        dots = {"color": color, "marker": "o", "markersize": 3, "linewidth": 1.4}
        valid_loss.plot(at, _series(run.valid, "loss"), **dots)
        score.plot(at, _series((line["metrics"]["mean"] for line in run.valid), metric), **dots)
        if not several:
            always_yes = (line["metrics"]["baselines"].get("always_yes", {}) for line in run.valid)
            trivial = np.zeros(len(at)) if numbers else _series(always_yes, "f1")
            score.plot(at, trivial, color=PAGE.faint, linestyle="--", linewidth=1)
        rate.plot(*_thin(steps, _series(run.train, "lr")), color=color, linewidth=1.4)
        for axes in (loss, valid_loss, score, rate) if run.best_step is not None else ():
            axes.axvline(run.best_step, color=color if several else PAGE.faint, linewidth=0.8, linestyle=":")
    rate.yaxis.set_major_formatter(_formatter())
    for axes in (score, rate):
        axes.set_xlabel("step", color=PAGE.faint, fontsize=8)
        axes.margins(y=0.1)
        if axes is rate or not numbers:  # CCC lies between -1 and 1, all others above 0
            axes.set_ylim(bottom=0)
    return _svg(figure)


def reliability(predicted: Sequence[float], observed: Sequence[float], counts: Sequence[int]) -> str:
    """Observed share of positives over the predicted probability by bin, and how many predictions each bin has."""
    figure = _figure(4.6, 4.4, PAGE)
    figure.subplots_adjust(left=0.12, right=0.97, bottom=0.1, top=0.94, hspace=0.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    _panel(upper, "Share that is true", PAGE)
    upper.plot([0, 1], [0, 1], color=PAGE.faint, linestyle="--", linewidth=1)
    largest = max(counts, default=1)
    sizes = [12 + 90 * count / largest for count in counts]
    upper.plot(predicted, observed, color=PAGE.series[0], linewidth=1.2)
    upper.scatter(predicted, observed, s=sizes, color=PAGE.series[0], linewidths=0)
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    _panel(lower, "Predictions", PAGE)
    lower.bar(predicted, counts, width=0.04, color=PAGE.series[0])
    lower.set_xlabel("predicted probability", color=PAGE.faint, fontsize=8)
    return _svg(figure)


def over_time(names: Sequence[str], times: Sequence[float], values: Sequence[Sequence[float]], end: float) -> str:
    """The outputs of overlapping windows over the time of a clip of `end` seconds; `values` are by window."""
    figure = _figure(10.4, 2.6, PAGE, layout="constrained")
    axes = figure.subplots()
    _panel(axes, "", PAGE)
    for number, name in enumerate(names):
        style = "-" if number < SERIES else "--"
        color = PAGE.series[number % SERIES]
        axes.plot(times, [one[number] for one in values], style, color=color, label=name, marker="o", markersize=3)
    axes.set_xlim(0, end)
    axes.set_xlabel("seconds", color=PAGE.faint, fontsize=8)
    figure.legend(loc="outside right center", fontsize=8, frameon=False, labelcolor=PAGE.ink)
    return _svg(figure)


def sweep_figure(rows: Sequence[Any], theme: Theme = LIGHT) -> bytes:
    """Quality against operations and seconds, for summaries of sweep.py (the paper's Figure 5), as PNG.

    A point is a variant, its bar the standard deviation over the seeds; a line joins FE2E and its narrower forms, and
    another one MESM with tiles of one size.
    """
    figure = _figure(9.6, 5.6, theme, layout="constrained")
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    scores = {"Test macro F1": "f1", "Test AUC": "auc"}
    costs = {"Operations of feature extraction, of FE2E's": "operations", "Seconds, forward and backward": "both"}
    for line, (title, score) in zip(figure.subplots(2, 2), scores.items(), strict=True):
        for axes, (label, cost) in zip(line, costs.items(), strict=True):
            _panel(axes, title, theme)
            for group, marker in zip(groups.values(), "os^v", strict=False):
                points = sorted(group, key=lambda row: float(getattr(row, cost)))
                means, spreads = zip(*(getattr(row, score) for row in points), strict=True)
                axes.errorbar(
                    [getattr(row, cost) for row in points], means, yerr=[spread or 0 for spread in spreads],
                    color=theme.faint if points[0].kind == "fe2e" else theme.series[0],
                    marker=marker, markersize=4, linewidth=1, capsize=2, label=points[0].group,
                )  # fmt: skip
            axes.set_xlabel(label, color=theme.faint, fontsize=8)
            axes.set_xlim(left=0)
            axes.legend(fontsize=7, frameon=False, labelcolor=theme.ink)
    file = BytesIO()
    figure.savefig(file, format="png", dpi=200, metadata=NO_METADATA)
    return file.getvalue()


def _figure(width: float, height: float, theme: Theme, **options: Any) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=theme.paper, **options)
    FigureCanvasAgg(figure)
    return figure


def _svg(figure: "Figure") -> str:
    """The figure as an `<svg>` element for a page: its colours are CSS variables, its text is text."""
    import matplotlib

    file = BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mesm"}):
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    svg = file.getvalue().decode()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (xmlns(:xlink)?|width|height)="[^"]*"', "", svg, count=4)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    return re.sub(r"#0[1-5]0[1-5]0[0-5]", lambda match: f"var({CSS[match[0]]})", svg)


def _panel(axes: "Axes", title: str, theme: Theme) -> None:
    axes.set_title(title, loc="left", y=1, fontsize=9, color=theme.ink)  # without y its place is computed, slowly
    axes.set_facecolor(theme.paper)
    axes.tick_params(colors=theme.faint, labelsize=8, length=0)
    axes.grid(color=theme.line, linewidth=0.5)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _formatter() -> "Formatter":
    from matplotlib.ticker import StrMethodFormatter

    return StrMethodFormatter("{x:g}")


def _thin(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most MAX_POINTS points: means of neighbours."""
    if len(x) <= MAX_POINTS:
        return x, y
    parts = np.linspace(0, len(x), MAX_POINTS, endpoint=False).astype(int)
    sizes = np.diff([*parts, len(x)])
    return np.add.reduceat(x, parts) / sizes, np.add.reduceat(y, parts) / sizes


def _series(lines: Iterable[Line], name: str) -> NDArray[np.float64]:
    """One number of each line; a gap (NaN) where it is null."""
    return np.array([np.nan if line.get(name) is None else line[name] for line in lines], np.float64)

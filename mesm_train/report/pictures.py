"""Figures and PNGs, without pyplot: a figure is drawn on its own, and nothing is left behind."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = NDArray[np.uint8]
Line = Mapping[str, Any]
UNSIGNED: dict[str, Any] = {"Software": None}  # or the same picture differs by the version of matplotlib


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """The colours of a figure, those of the page's style sheet."""

    paper: str
    ink: str
    faint: str
    line: str
    accent: str


LIGHT = Theme(paper="#ffffff", ink="#1c1f23", faint="#6b7178", line="#dcdfe3", accent="#1f5fa8")
DARK = Theme(paper="#16181b", ink="#e4e6e8", faint="#9aa0a6", line="#34383d", accent="#7db4ee")


class Shown(Protocol):
    """A row of `sheet`: see looks.Strip."""

    @property
    def title(self) -> str: ...
    @property
    def note(self) -> str: ...
    @property
    def pixels(self) -> Pixels: ...
    @property
    def seconds(self) -> float: ...


def colours(values: NDArray[np.floating[Any]]) -> Pixels:
    """Numbers from 0 to 1, of any shape, as viridis colours (..., 3); what lies outside is clipped."""
    import matplotlib

    return np.asarray(matplotlib.colormaps["viridis"](np.clip(values, 0, 1), bytes=True))[..., :3]


def data_uri(png: bytes) -> str:
    """The picture as an address that holds it."""
    return f"data:image/png;base64,{b64encode(png).decode()}"


def png(pixels: Pixels) -> bytes:
    """(H, W, 3) as a PNG of H x W pixels."""
    from matplotlib.image import imsave

    file = BytesIO()
    imsave(file, np.ascontiguousarray(pixels), format="png", metadata=UNSIGNED)
    return file.getvalue()


def curves(train: Sequence[Line], valid: Sequence[Line], chosen: int | None, theme: Theme) -> bytes:
    """The lines of metrics.jsonl over the steps: loss on both parts, macro F1 and that of a constant, learning rate.

    `chosen` is the step of the epoch that was kept. Train and validation loss have axes of their own: classes may be
    weighted in the one and never are in the other.
    """
    figure = _figure(9.6, 4.4, theme, layout="constrained")
    (loss, valid_loss), (f1, rate) = figure.subplots(2, 2, sharex=True)
    steps, losses = _series(train, "step"), _series(train, "loss")
    width = max(1, len(losses) // 40)
    _panel(loss, "Train loss" + (f", mean of {width} steps" if width > 1 else ""), theme)
    loss.plot(steps, losses, color=theme.line, linewidth=0.8)
    smooth = np.convolve(losses, np.ones(width) / width, "valid") if len(losses) else losses
    loss.plot(steps[width - 1 :], smooth, color=theme.accent)
    at = _series(valid, "step")
    dots = {"color": theme.accent, "marker": "o", "markersize": 3}
    _panel(valid_loss, "Validation loss", theme)
    valid_loss.plot(at, _series(valid, "loss"), **dots)
    _panel(f1, "Validation macro F1; dashed: best constant answer", theme)
    f1.plot(at, _series((line["metrics"]["mean"] for line in valid), "f1"), **dots)
    constant = (line["metrics"]["baselines"].get("always_yes", {}) for line in valid)
    f1.plot(at, _series(constant, "f1"), color=theme.faint, linestyle="--")
    _panel(rate, "Learning rate", theme)
    rate.plot(steps, _series(train, "lr"), color=theme.accent)
    rate.yaxis.set_major_formatter("{x:g}")
    for axes in (f1, rate):
        axes.set_xlabel("step", color=theme.faint, fontsize=8)
        axes.margins(y=0.1)
        axes.set_ylim(bottom=0)
    for axes in (loss, valid_loss, f1, rate) if chosen is not None else ():
        axes.axvline(chosen, color=theme.faint, linewidth=0.8, linestyle=":")
    return _saved(figure, 200)


def sweep_figure(rows: Sequence[Any], theme: Theme = LIGHT) -> bytes:
    """p against macro F1, operations and seconds of a step, for rows of sweep.py (the paper's Figure 5)."""
    figure = _figure(9.6, 2.8, theme, layout="constrained")
    panels = {
        "Test macro F1": [np.nan if row.f1 is None else row.f1 for row in rows],
        "Operations, of the dense model's": [row.macs / row.dense_macs for row in rows],
        "Seconds a step, as the machine was": [row.step_seconds for row in rows],
    }
    for axes, (title, values) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        _panel(axes, title, theme)
        axes.plot([row.p for row in rows], values, color=theme.accent, marker="o", markersize=3)
        axes.set_xlabel("p", color=theme.faint, fontsize=8)
        axes.set_ylim(bottom=0)
    return _saved(figure, 200)


def sheet(title: str, strips: Sequence[Shown], theme: Theme = LIGHT) -> bytes:
    """Strips below each other on one axis of time, 2 inches a second: a face of 0.5 s at 4 times its 48 pixels."""
    left, gap, top = 1.7, 0.08, 0.4
    width = left + 2 * max((strip.seconds for strip in strips), default=1) + gap
    height = top + len(strips) * (1 + gap)
    figure = _figure(width, height, theme)
    figure.text(gap / width, 1 - 0.27 / height, title, color=theme.ink, fontsize=11, weight="bold", parse_math=False)
    for number, strip in enumerate(strips):
        bottom = height - top - number * (1 + gap) - 1
        axes = figure.add_axes((left / width, bottom / height, 2 * strip.seconds / width, 1 / height))
        axes.imshow(strip.pixels, aspect="auto", interpolation="nearest")
        axes.set_axis_off()
        figure.text(
            gap / width,
            (bottom + 0.5) / height,
            f"{strip.title}\n{strip.note}",
            color=theme.faint,
            fontsize=8,
            va="center",
        )
    return _saved(figure, 192)


def _figure(width: float, height: float, theme: Theme, **options: Any) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=theme.paper, **options)
    FigureCanvasAgg(figure)
    return figure


def _saved(figure: "Figure", dpi: int) -> bytes:
    file = BytesIO()
    figure.savefig(file, format="png", dpi=dpi, metadata=UNSIGNED)
    return file.getvalue()


def _panel(axes: "Axes", title: str, theme: Theme) -> None:
    axes.set_title(title, loc="left", fontsize=9, color=theme.ink)
    axes.set_facecolor(theme.paper)
    axes.tick_params(colors=theme.faint, labelsize=8, length=0)
    axes.grid(color=theme.line, linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _series(lines: Iterable[Line], name: str) -> NDArray[np.float64]:
    """One number of each line; a gap (NaN) where it is null."""
    return np.array([np.nan if line.get(name) is None else line[name] for line in lines], np.float64)

"""A picture of predictions over time."""

import io
from collections.abc import Sequence
from pathlib import Path

from mesm_data.errors import InputError
from mesm_data.storage.files import atomic_write, check_writable
from mesm_data.storage.safe_text import valid_unicode
from mesm_train.inference.result import Prediction

FORMATS = ("png", "svg", "pdf")


def check_figure(path: Path) -> None:
    """Raises InputError if the ending of a file is none of `FORMATS`, or a file cannot be created there."""
    if path.suffix.lower().removeprefix(".") not in FORMATS:
        raise InputError(f"--timeline {path}: expected the ending .{', .'.join(FORMATS)}")
    check_writable(path)


def write_timeline(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write a figure with a line for each class, at the middles of the windows; gaps are where nothing was predicted.

    Raises InputError if the ending of the file is none of `FORMATS`, or nothing was predicted.
    """
    check_figure(path)
    if not predictions:
        raise InputError(f"{path}: nothing was predicted, so there is nothing to draw")
    from matplotlib.figure import Figure

    first = predictions[0]
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    for index, name in enumerate(first.values):
        times: list[float] = []
        values: list[float] = []
        for before, now in zip((None, *predictions), predictions, strict=False):
            if before is not None and now.start > before.end + 1e-6:  # nothing was predicted in between
                times.append((before.end + now.start) / 2)
                values.append(float("nan"))
            times.append((now.start + now.end) / 2)
            values.append(now.values[name])
        axes.plot(times, values, marker="o", markersize=3, color=f"C{index}", label=first.meaning(name))
    numbers = any(head.kind == "number" for head in first.heads)
    if not numbers:
        axes.set_ylim(0, 1)
    axes.set_xlim(first.start, max(prediction.end for prediction in predictions))
    axes.set_xlabel("seconds")
    axes.set_ylabel("value" if numbers else "probability")
    axes.set_title(valid_unicode(first.path.name), parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format=path.suffix.lower().removeprefix("."), dpi=120)
    with atomic_write(path) as file:
        file.write(stream.getvalue())

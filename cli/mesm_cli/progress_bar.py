"""The progress bar of all commands."""

from collections.abc import Callable
from typing import Any

from mesm_cli import console
from mesm_data.storage.progress import Step


class ProgressBar:
    """A bar per phase, which is closed before another message is printed. Calling it starts a phase (`Progress`)."""

    def __init__(self, unit: str = "utt", *, leave: bool = True) -> None:
        """Show nothing until a phase starts.

        Args:
            unit: What is counted. Bytes ("B") are shown as kB, MB or GB.
            leave: Whether the bar remains on the terminal when its phase has ended.
        """
        self._unit, self._leave = unit, leave
        self._bar: Any = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __call__(self, phase: str, total: int, todo: int) -> Step:
        """Start a phase with a bar of its own."""
        from tqdm import tqdm

        self._close()
        self._bar = tqdm(
            total=total,
            initial=total - todo,
            unit=self._unit,
            unit_scale=self._unit == "B",
            desc=phase,
            smoothing=0.05,
            dynamic_ncols=True,
            leave=self._leave,
        )
        update: Step = self._bar.update
        return update

    def show(self, data: object) -> None:
        """Write a line of the result above the bar."""
        self._write(console.show, data)

    def say(self, message: str) -> None:
        """Write a message above the bar."""
        self._write(console.say, message)

    def __exit__(self, *_: object) -> None:
        self._close()

    def _write(self, write: Callable[[Any], None], data: object) -> None:
        if self._bar is not None:
            self._bar.clear()
        write(data)
        if self._bar is not None:
            self._bar.refresh()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

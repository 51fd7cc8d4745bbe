"""What a person sees of a run: a line a step in a file, a bar on a terminal, curves in TensorBoard."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from mesm_data.errors import InputError
from mesm_data.terminal import printable_message


class Watcher(Protocol):
    """Told of what the loop does."""

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """A step is done, `done` of the epoch's `count`; `record` is its line of metrics.jsonl."""

    def epoch(self, record: dict[str, Any]) -> None:
        """A part of the split was judged; `record` is its line of metrics.jsonl."""

    def say(self, line: str) -> None:
        """Something that is worth a line."""


class Silent:
    """For the ranks but the first."""

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Nothing."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""


class Lines(Silent):
    """One line a step on stderr: loss, utterances a second, time spent waiting for data, time left of the epoch."""

    def __init__(self) -> None:
        self._speeds: list[float] = []

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Write the line."""
        left = self._left(record, done, count)
        self.say(f"epoch {record['epoch']} step {done}/{count} {told(record)}, epoch ends in {left:.0f} s")

    def say(self, line: str) -> None:
        """Write it."""
        print(printable_message(line), file=sys.stderr, flush=True)

    def _left(self, record: dict[str, Any], done: int, count: int) -> float:
        """Seconds to the end of the epoch, by the mean speed of its steps so far."""
        if done == 1:
            self._speeds.clear()
        self._speeds.append(record["seconds"])
        return (count - done) * sum(self._speeds) / len(self._speeds)


class Bar(Silent):
    """The same on a terminal: a tqdm bar for each epoch."""

    def __init__(self) -> None:
        self._bar: Any = None

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Move the bar; a new one for a new epoch."""
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=count, initial=done - 1, desc=f"epoch {record['epoch']}", unit="step", leave=False)
        self._bar.set_postfix_str(told(record), refresh=False)
        self._bar.update(1)

    def say(self, line: str) -> None:
        """Close the bar and write it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        print(printable_message(line), file=sys.stderr, flush=True)


class Curves:
    """What another watcher shows, and TensorBoard's files beside it: everything that metrics.jsonl holds, by step."""

    def __init__(self, folder: Path, watcher: Watcher) -> None:
        """Raises InputError if tensorboard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError("--tensorboard needs a package: pip install 'mesm[tensorboard]'") from None
        self._other, self._folder, self._new = watcher, folder, SummaryWriter
        self._writer: Any = None

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Add a point to each curve of training."""
        self._other.step(record, done, count)
        self._add(record)

    def epoch(self, record: dict[str, Any]) -> None:
        """Add a point to each curve of the part, classes included."""
        self._other.epoch(record)
        self._add(record)

    def say(self, line: str) -> None:
        """Pass it on; what was added is on disk afterwards."""
        self._other.say(line)
        if self._writer is not None:
            self._writer.flush()

    def _add(self, record: dict[str, Any]) -> None:
        if self._writer is None:  # points of a run that goes on replace those behind its last checkpoint
            self._writer = self._new(self._folder, purge_step=record["step"])
        for name, value in _numbers({key: value for key, value in record.items() if key not in ("kind", "step")}):
            self._writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in nested dictionaries, with names like mean/f1."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}/{key}" if name else str(key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)


def told(record: dict[str, Any]) -> str:
    """The numbers of a step."""
    return f"loss {record['loss']:.4f} {record['samples_per_s']:.1f} utt/s wait {record['data_wait']:.3f} s"

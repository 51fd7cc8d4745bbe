"""What a person sees of a run: a line an epoch in a file, a bar on a terminal, curves in TensorBoard or W&B."""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from mesm_data.errors import InputError
from mesm_data.storage.safe_text import printable_message


class Watcher(Protocol):
    """Told of what the loop does."""

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """An update is done, `done` of the epoch's `count`; `record` is its line of metrics.jsonl."""

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
    """One line an epoch on stderr, and in long epochs one line every `interval` seconds, see `told`."""

    def __init__(self, interval: float = 60) -> None:
        self._speeds: list[float] = []
        self._interval, self._last = interval, time.monotonic()

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Write a line if the last one is old enough."""
        left = self._left(record, done, count)
        if time.monotonic() - self._last < self._interval:
            return
        self.say(f"epoch {record['epoch']} step {done}/{count} {told(record)}, epoch ends in {left:.0f} s")

    def say(self, line: str) -> None:
        """Write it."""
        self._last = time.monotonic()
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


class Curves(ABC):
    """What another watcher shows, and beside it curves of everything that metrics.jsonl holds, by update."""

    def __init__(self, watcher: Watcher) -> None:
        self._other = watcher

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Add a point to each curve of training."""
        self._other.step(record, done, count)
        self._draw(record)

    def epoch(self, record: dict[str, Any]) -> None:
        """Add a point to each curve of the part, classes included."""
        self._other.epoch(record)
        self._draw(record)

    def say(self, line: str) -> None:
        """Pass it on; what was added is on disk afterwards."""
        self._other.say(line)
        self.flush()

    @abstractmethod
    def add(self, points: dict[str, float], step: int) -> None:
        """A point of some curves, by name."""

    @abstractmethod
    def flush(self) -> None:
        """Write what was added."""

    def _draw(self, record: dict[str, Any]) -> None:
        values = {key: value for key, value in record.items() if key not in ("kind", "step")}
        self.add({f"{record['kind']}/{name}": value for name, value in _numbers(values)}, record["step"])


class TensorBoard(Curves):
    """Curves in TensorBoard's files."""

    def __init__(self, folder: Path, watcher: Watcher) -> None:
        """Raises InputError if tensorboard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError("--tensorboard needs a package: pip install 'mesm[tensorboard]'") from None
        super().__init__(watcher)
        self._folder, self._new = folder, SummaryWriter
        self._writer: Any = None

    def add(self, points: dict[str, float], step: int) -> None:
        """See Curves."""
        if self._writer is None:  # points of a run that goes on replace those behind its last checkpoint
            self._writer = self._new(self._folder, purge_step=step)
        for name, value in points.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """See Curves."""
        if self._writer is not None:
            self._writer.flush()


class WeightsAndBiases(Curves):
    """Curves in Weights & Biases: online, or in `folder` only if WANDB_MODE=offline; set up by WANDB_* variables."""

    def __init__(self, folder: Path, watcher: Watcher) -> None:
        """Raises InputError if wandb is not installed."""
        try:
            import wandb
        except ImportError:
            raise InputError("--wandb needs a package: pip install 'mesm[wandb]'") from None
        super().__init__(watcher)
        self._wandb, self._folder = wandb, folder
        self._run: Any = None

    def add(self, points: dict[str, float], step: int) -> None:
        """See Curves. A run that goes on has the same id; what it does again is not drawn twice."""
        if self._run is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = self._folder.absolute().parent.name
            self._run = self._wandb.init(project="mesm", name=name, id=self._id(), resume="allow", dir=self._folder)
        self._run.log(points, step=step)

    def flush(self) -> None:
        """W&B writes by itself."""

    def _id(self) -> str:
        """Of this run, kept in its folder."""
        path = self._folder / "id"
        if not path.exists():
            path.write_text(uuid4().hex)
        return path.read_text()


class Profile(Silent):
    """What another watcher shows, and a trace of some updates for chrome://tracing or Perfetto."""

    def __init__(self, file: Path, first: int, last: int, watcher: Watcher) -> None:
        """The trace lasts from the end of update `first` to that of `last`, counted from 1 in this process."""
        self._file, self._first, self._last, self._other = file, first, last, watcher
        self._updates = 0
        self._profile: Any = None

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Begin or end the trace."""
        from torch.profiler import profile

        self._other.step(record, done, count)
        self._updates += 1
        if self._updates == self._first:
            self._profile = profile()
            self._profile.start()
        elif self._updates == self._last and self._profile is not None:
            self._profile.stop()
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._profile.export_chrome_trace(str(self._file))
            self._profile = None
            self._other.say(f"profile: {self._file}")

    def epoch(self, record: dict[str, Any]) -> None:
        """Pass it on."""
        self._other.epoch(record)

    def say(self, line: str) -> None:
        """Pass it on."""
        self._other.say(line)


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in nested dictionaries, with names like mean/f1."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}/{key}" if name else str(key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)


def told(record: dict[str, Any]) -> str:
    """The numbers of an update. MFU only where the device's peak is known."""
    norm = "-" if record["grad_norm"] is None else f"{record['grad_norm']:.3g}"
    mfu = "" if record["mfu"] is None else f" mfu {100 * record['mfu']:.1f}%"
    return (
        f"loss {record['loss']:.4f} lr {record['lr']:.3g} grad {norm} {record['samples_per_s']:.1f} utt/s{mfu} "
        f"wait {record['data_wait']:.3f} s mem {record['memory_gb']:.1f} GB"
    )

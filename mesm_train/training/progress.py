"""Shows the progress of a run: lines in a file, a bar on a terminal, curves in TensorBoard or W&B, a profile."""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from mesm_data.errors import InputError
from mesm_data.storage.safe_text import printable_message


class RunLogger(Protocol):
    """Receives the events of the training loop."""

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Called after each update, which is number `done` of the epoch's `count`; `record`: see metrics.jsonl."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Called after each evaluation of a part of the split; `record`: see metrics.jsonl."""

    def say(self, line: str) -> None:
        """Called with a message for the user."""

    def close(self) -> None:
        """Called when the run has ended or was stopped."""


class NullLogger:
    """Shows nothing. For all ranks but the first."""

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Do nothing."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Do nothing."""

    def say(self, line: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class LineLogger(NullLogger):
    """Writes messages to stderr, and in long epochs a line about an update every `interval` seconds."""

    def __init__(self, interval: float = 60) -> None:
        self._seconds: list[float] = []  # of each update of the epoch
        self._interval, self._last_line = interval, time.monotonic()

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Write a line if the last one is older than the interval."""
        left = self._seconds_left(record, done, count)
        if time.monotonic() - self._last_line < self._interval:
            return
        self.say(f"epoch {record['epoch']} step {done}/{count} {format_update(record)}, epoch ends in {left:.0f} s")

    def say(self, line: str) -> None:
        """Write the line."""
        self._last_line = time.monotonic()
        print(printable_message(line), file=sys.stderr, flush=True)

    def _seconds_left(self, record: dict[str, Any], done: int, count: int) -> float:
        """The estimated time to the end of the epoch, by the mean duration of its updates so far."""
        if done == 1:
            self._seconds.clear()
        self._seconds.append(record["seconds"])
        return (count - done) * sum(self._seconds) / len(self._seconds)


class BarLogger(NullLogger):
    """Shows a progress bar (tqdm) for each epoch on a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Advance the bar, or start a new one for a new epoch."""
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=count, initial=done - 1, desc=f"epoch {record['epoch']}", unit="step", leave=False)
        self._bar.set_postfix_str(format_update(record), refresh=False)
        self._bar.update(1)

    def say(self, line: str) -> None:
        """Close the bar and write the line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        print(printable_message(line), file=sys.stderr, flush=True)


class CurveLogger(ABC):
    """Forwards to another logger, and adds curves of all numbers of metrics.jsonl, by update."""

    def __init__(self, logger: RunLogger) -> None:
        self._logger = logger

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Add a point to each training curve."""
        self._logger.step(record, done, count)
        self._add_record(record)

    def epoch(self, record: dict[str, Any]) -> None:
        """Add a point to each curve of the part of the split, including those of the classes."""
        self._logger.epoch(record)
        self._add_record(record)

    def say(self, line: str) -> None:
        """Forward the line, and flush the curves."""
        self._logger.say(line)
        self.flush()

    def close(self) -> None:
        """Close the other logger."""
        self._logger.close()

    @abstractmethod
    def add(self, points: dict[str, float], step: int) -> None:
        """Add a point to each of these curves: name -> value."""

    @abstractmethod
    def flush(self) -> None:
        """Write all points to disk."""

    def _add_record(self, record: dict[str, Any]) -> None:
        values = {key: value for key, value in record.items() if key not in ("kind", "step")}
        self.add({f"{record['kind']}/{name}": value for name, value in _numbers(values)}, record["step"])


class TensorBoardLogger(CurveLogger):
    """Writes curves for TensorBoard."""

    def __init__(self, folder: Path, logger: RunLogger) -> None:
        """Raises InputError if tensorboard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError("--tensorboard needs a package: pip install 'mesm[tensorboard]'") from None
        super().__init__(logger)
        self._folder, self._writer_class = folder, SummaryWriter
        self._writer: Any = None

    def add(self, points: dict[str, float], step: int) -> None:
        """See CurveLogger."""
        if self._writer is None:  # points of a resumed run replace those after its last checkpoint
            self._writer = self._writer_class(self._folder, purge_step=step)
        for name, value in points.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """See CurveLogger."""
        if self._writer is not None:
            self._writer.flush()


class WandbLogger(CurveLogger):
    """Sends curves to Weights & Biases, or with WANDB_MODE=offline only to `folder`; WANDB_* variables configure it."""

    def __init__(self, folder: Path, logger: RunLogger) -> None:
        """Raises InputError if wandb is not installed."""
        try:
            import wandb
        except ImportError:
            raise InputError("--wandb needs a package: pip install 'mesm[wandb]'") from None
        super().__init__(logger)
        self._wandb, self._folder = wandb, folder
        self._run: Any = None

    def add(self, points: dict[str, float], step: int) -> None:
        """See CurveLogger. A resumed run has the same id, and W&B ignores points that it already has."""
        if self._run is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = self._folder.absolute().parent.name
            self._run = self._wandb.init(
                project="mesm", name=name, id=self._id(), resume="allow", dir=str(self._folder)
            )
        self._run.log(points, step=step)

    def flush(self) -> None:
        """Do nothing: W&B writes in the background."""

    def _id(self) -> str:
        """The id of this run, stored in its folder."""
        path = self._folder / "id"
        if not path.exists():
            path.write_text(uuid4().hex)
        return path.read_text()


class ProfileLogger(NullLogger):
    """Forwards to another logger, and traces some updates for chrome://tracing or Perfetto."""

    def __init__(self, file: Path, first: int, last: int, logger: RunLogger) -> None:
        """Trace the updates from `first` to `last`.

        Args:
            file: The trace, a compressed JSON file.
            first: The trace starts after this update, counted from 1 in this process,
            last: and ends after this one.
            logger: The logger to forward to.
        """
        self._file, self._first, self._last, self._logger = file, first, last, logger
        self._updates = 0
        self._profile: Any = None

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Start or end the trace."""
        from torch.profiler import profile

        self._logger.step(record, done, count)
        self._updates += 1
        if self._updates == self._first:
            self._profile = profile()
            self._profile.start()
        elif self._updates == self._last:
            self._write()

    def epoch(self, record: dict[str, Any]) -> None:
        """Forward the record."""
        self._logger.epoch(record)

    def say(self, line: str) -> None:
        """Forward the line."""
        self._logger.say(line)

    def close(self) -> None:
        """Write a trace that has begun, or say that none has."""
        if self._updates < self._first:
            self.say(f"no profile: this was {self._updates} updates, and --profile begins after number {self._first}")
        elif self._profile is not None:
            self._write()
        self._logger.close()

    def _write(self) -> None:
        """End the trace."""
        self._profile.stop()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._profile.export_chrome_trace(str(self._file))
        self._profile = None
        self.say(f"profile: {self._file}")


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in nested dictionaries, with names like mean/f1."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}/{key}" if name else str(key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)


def format_update(record: dict[str, Any]) -> str:
    """The numbers of an update as text. MFU appears only if the device's peak is known."""
    norm = "-" if record["grad_norm"] is None else f"{record['grad_norm']:.3g}"
    mfu = "" if record["mfu"] is None else f" mfu {100 * record['mfu']:.1f}%"
    return (
        f"loss {record['loss']:.4f} lr {record['lr']:.3g} grad {norm} {record['samples_per_s']:.1f} utt/s{mfu} "
        f"wait {record['data_wait']:.3f} s mem {record['memory_gb']:.1f} GB"
    )

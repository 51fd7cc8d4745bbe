"""What an update reports. It is read one update later, so that the host never waits for a card that is still busy."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from mesm_data.errors import MesmError
from mesm_data.storage.json_files import write_json
from mesm_train.data import device as accelerator
from mesm_train.training import throughput
from mesm_train.training.metrics_log import Journal
from mesm_train.training.progress import Watcher
from mesm_train.training.setup import Setup


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One rank's part of an update."""

    losses: Tensor  # float32 (micro-batches,), each this rank's part of that micro-batch's loss
    data_wait: float  # seconds that this rank waited for its batches
    operations: float  # floating-point operations of the forward and backward passes
    failed: bool
    stop: bool
    overdue: bool  # a checkpoint is

    def pack(self, device: torch.device) -> Tensor:
        """float32 (5 + micro-batches,) on `device`."""
        known = torch.tensor([self.data_wait, self.operations, self.failed, self.stop, self.overdue])
        return torch.cat([accelerator.to_device(known, device), self.losses])

    @classmethod
    def unpack(cls, row: Tensor) -> "Status":
        """What `pack` made of it, on the CPU."""
        wait, operations, failed, stop, overdue = row[:5].tolist()
        return cls(
            losses=row[5:], data_wait=wait, operations=operations, failed=bool(failed), stop=bool(stop),
            overdue=bool(overdue),
        )  # fmt: skip


class Report:
    """An update after its launch; its numbers may still be on their way from the device."""

    def __init__(
        self,
        record: dict[str, Any],
        *,
        first: int,
        keys: Sequence[tuple[str, ...]],
        error: MesmError | None,
        rows: Tensor,
        norm: Tensor,
    ) -> None:
        """
        Args:
            record: its line of metrics.jsonl, as far as it is known.
            first: the step of the epoch that its first micro-batch is.
            keys: this rank's utterances of each micro-batch.
            error: of this rank.
            rows: (world, ...), the packed status of each rank.
            norm: (), of the gradients.
        """
        self.record, self.first, self.keys, self.error = record, first, keys, error
        self.seconds = 0.0  # that the update took
        self._shape = rows.shape
        numbers = torch.cat([rows.flatten(), norm.reshape(1).float()])
        self._copied: torch.cuda.Event | None = None
        if numbers.device.type == "cuda":
            host = torch.empty_like(numbers, device="cpu", pin_memory=True)
            numbers = host.copy_(numbers, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()
        self._numbers = numbers

    def read(self) -> tuple[list[Status], float | None]:
        """The status of each rank, and the norm of the gradients (None if it is not finite); waits for the device."""
        if self._copied is not None:
            self._copied.synchronize()
        rows, norm = self._numbers[:-1].view(self._shape), float(self._numbers[-1])
        return [Status.unpack(row) for row in rows], norm if math.isfinite(norm) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The training of an epoch: its mean loss, and the seconds that a whole epoch takes."""

    loss: float
    seconds: float


class Reporter:
    """Reads what updates reported, one update late, and tells it to the journal and the watcher."""

    def __init__(self, setup: Setup, run: Path, journal: Journal, watcher: Watcher, updates: int) -> None:
        """`updates`: of an epoch."""
        self.stopping = False  # a rank is asked to stop
        self.overdue = False  # a checkpoint is
        self._setup, self._run, self._journal, self._watcher, self._updates = setup, run, journal, watcher, updates
        self._peak = throughput.peak(setup.device, setup.config.optim.precision)
        self._waiting: Report | None = None
        self._epoch: list[tuple[float, float]] = []  # loss and seconds of each update since `end_epoch`

    def end_epoch(self) -> Trained:
        """Mean loss and expected length of an epoch, from the updates since the last call."""
        losses, seconds = zip(*self._epoch, strict=True)
        self._epoch = []
        return Trained(loss=fmean(losses), seconds=fmean(seconds) * self._updates)

    def put(self, report: Report) -> None:
        """Keep the report of an update, to be read later."""
        self._waiting = report

    def read(self) -> None:
        """Read the report that was put last, if it was not read yet.

        Raises MesmError on all ranks if one of them failed, or a part of the loss is not finite.
        """
        report, self._waiting = self._waiting, None
        if report is None:
            return
        setup = self._setup
        statuses, norm = report.read()
        if any(status.failed for status in statuses):
            setup.ranks.agree(report.error)
        refuse_nan(setup, statuses, report, self._run)
        self.stopping = self.stopping or any(status.stop for status in statuses)
        self.overdue = any(status.overdue for status in statuses)
        per_second = sum(status.operations for status in statuses) / report.seconds
        record = {
            **report.record,
            "loss": sum(float(status.losses.double().sum()) for status in statuses) / len(report.keys),
            "grad_norm": norm,
            "samples_per_s": report.record["samples"] / report.seconds,
            "data_wait": max(status.data_wait for status in statuses),
            "seconds": report.seconds,
            "tflops": per_second / 1e12,
            "mfu": None if self._peak is None or not per_second else per_second / (self._peak * setup.ranks.world),
            "memory_gb": throughput.peak_memory_gb(setup.device),
        }
        self._journal.append(record)
        self._epoch.append((record["loss"], record["seconds"]))
        done = -(-(report.first + len(report.keys)) // setup.config.optim.accumulate)
        self._watcher.step(record, done, self._updates)


def refuse_nan(setup: Setup, statuses: list[Status], report: Report, run: Path) -> None:
    """Raises MesmError on all ranks if a part of the loss is not finite, after writing down the keys that gave it."""
    losses = torch.stack([status.losses for status in statuses])  # (world, micro-batches)
    finite = losses.isfinite()
    if finite.all():
        return
    micro = int(finite.all(0).int().argmin())
    bad = [rank for rank, good in enumerate(finite[:, micro].tolist()) if not good]
    keys = [json.loads(text) for text in setup.ranks.gather_texts(json.dumps(report.keys[micro]))]
    loss, epoch, step = float(losses[bad[0], micro]), report.record["epoch"], report.first + micro
    where = {
        "epoch": epoch, "step": step, "loss": str(loss), "ranks": bad,
        "keys": [key for rank in bad for key in keys[rank]],
    }  # fmt: skip
    if setup.ranks.first:
        write_json(run / "diverged.json", where)
    setup.ranks.agree(
        MesmError(
            f"the loss is {loss} at epoch {epoch}, step {step}; the batch is written down in "
            f"{run / 'diverged.json'}. A smaller optim.lr or optim.clip_norm=1 may help; --resume goes back to the "
            "last checkpoint"
        )
    )

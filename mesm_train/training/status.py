"""The report of an update. It is read one update later, so that the host never waits for a busy GPU."""

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
from mesm_train.training.metrics_log import MetricsLog
from mesm_train.training.progress import RunLogger
from mesm_train.training.setup import Setup


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStatus:
    """One rank's part of an update.

    Attributes:
        losses: float32 (micro-batches,), this rank's part of the loss of each micro-batch.
        data_wait: Seconds that this rank waited for its batches.
        operations: Floating-point operations of the forward and backward passes.
        failed: Whether the rank has an error.
        stop: Whether the rank was asked to stop.
        overdue: Whether a checkpoint is overdue.
    """

    losses: Tensor
    data_wait: float
    operations: float
    failed: bool
    stop: bool
    overdue: bool

    def pack(self, device: torch.device) -> Tensor:
        """float32 (5 + micro-batches,) on `device`."""
        numbers = torch.tensor([self.data_wait, self.operations, self.failed, self.stop, self.overdue])
        return torch.cat([accelerator.to_device(numbers, device), self.losses])

    @classmethod
    def unpack(cls, row: Tensor) -> "UpdateStatus":
        """Restore a status that `pack` packed, on the CPU."""
        wait, operations, failed, stop, overdue = row[:5].tolist()
        return cls(
            losses=row[5:], data_wait=wait, operations=operations, failed=bool(failed), stop=bool(stop),
            overdue=bool(overdue),
        )  # fmt: skip


class UpdateReport:
    """An update that was launched. Its numbers are copied from the device asynchronously."""

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
        """Start to copy the numbers of an update from the device.

        Args:
            record: The line of metrics.jsonl, without the numbers from the device.
            first: The step of the first micro-batch in the epoch.
            keys: The keys of this rank's utterances in each micro-batch.
            error: The error of this rank.
            rows: (world, ...), the packed status of each rank.
            norm: (), the norm of the gradients.
        """
        self.record, self.first, self.keys, self.error = record, first, keys, error
        self.seconds = 0.0  # duration of the update
        self._shape = rows.shape
        self._numbers = accelerator.HostCopy(torch.cat([rows.flatten(), norm.reshape(1).float()]))

    def read(self) -> tuple[list[UpdateStatus], float | None]:
        """Wait for the device. Returns the status of each rank and the norm of the gradients, None if not finite."""
        numbers = self._numbers.wait()
        rows, norm = numbers[:-1].view(self._shape), float(numbers[-1])
        return [UpdateStatus.unpack(row) for row in rows], norm if math.isfinite(norm) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """The mean loss of the training part of an epoch, and the duration of a complete epoch in seconds."""

    loss: float
    seconds: float


class UpdateReporter:
    """Reads the reports of updates, one update late, and sends them to the metrics log and the logger."""

    def __init__(self, setup: Setup, run: Path, metrics_log: MetricsLog, logger: RunLogger, updates: int) -> None:
        """`updates`: the number of updates per epoch."""
        self.stopping = False  # a rank was asked to stop
        self.overdue = False  # a checkpoint is overdue
        self._setup, self._run, self._metrics_log, self._logger, self._updates = (
            setup,
            run,
            metrics_log,
            logger,
            updates,
        )
        self._peak = throughput.peak_operations(setup.device, setup.config.optim.precision)
        self._pending: UpdateReport | None = None
        self._epoch: list[tuple[float, float]] = []  # loss and seconds of each update since `end_epoch`

    def end_epoch(self) -> TrainingSummary:
        """The summary of the updates since the last call."""
        losses, seconds = zip(*self._epoch, strict=True)
        self._epoch = []
        return TrainingSummary(loss=fmean(losses), seconds=fmean(seconds) * self._updates)

    def put(self, report: UpdateReport) -> None:
        """Store the report of an update until the next `read`."""
        self._pending = report

    def read(self) -> None:
        """Read the stored report, if there is one.

        Raises MesmError on all ranks if one of them failed, or if the loss is not finite.
        """
        report, self._pending = self._pending, None
        if report is None:
            return
        setup = self._setup
        statuses, norm = report.read()
        if any(status.failed for status in statuses):
            setup.ranks.raise_first_error(report.error)
        raise_if_not_finite(setup, statuses, report, self._run)
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
        self._metrics_log.append(record)
        self._epoch.append((record["loss"], record["seconds"]))
        done = -(-(report.first + len(report.keys)) // setup.config.optim.accumulate)
        self._logger.step(record, done, self._updates)


def raise_if_not_finite(setup: Setup, statuses: list[UpdateStatus], report: UpdateReport, run: Path) -> None:
    """Raise MesmError on all ranks if the loss is not finite, after writing the batch to RUN/diverged.json."""
    losses = torch.stack([status.losses for status in statuses])  # (world, micro-batches)
    is_finite = losses.isfinite()
    if is_finite.all():
        return
    micro = int(is_finite.all(0).int().argmin())
    bad_ranks = [rank for rank, finite in enumerate(is_finite[:, micro].tolist()) if not finite]
    keys = [json.loads(text) for text in setup.ranks.gather_texts(json.dumps(report.keys[micro]))]
    loss, epoch, step = float(losses[bad_ranks[0], micro]), report.record["epoch"], report.first + micro
    record = {
        "epoch": epoch, "step": step, "loss": str(loss), "ranks": bad_ranks,
        "keys": [key for rank in bad_ranks for key in keys[rank]],
    }  # fmt: skip
    if setup.ranks.first:
        write_json(run / "diverged.json", record)
    setup.ranks.raise_first_error(
        MesmError(
            f"the loss is {loss} at epoch {epoch}, step {step}; the batch is recorded in "
            f"{run / 'diverged.json'}. A smaller optim.lr or optim.clip_norm=1 may help; --resume goes back to the "
            "last checkpoint"
        )
    )

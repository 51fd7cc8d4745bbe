"""What an update reports. It is read one update later, so that the host never waits for a card that is still busy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mesm_data.errors import MesmError
from mesm_train.models import accelerator


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

"""The ranks of a run: processes that share its steps, on one machine or several. Everything that passes between them.

Gradients are summed by torch's DistributedDataParallel while the backward pass still runs. A rank or a modality may be
empty in a step, so the used parameters differ from rank to rank and step to step (`find_unused_parameters`), and
running statistics are averaged here instead of being overwritten by those of rank 0 (`broadcast_buffers=False`).
"""

import json
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.distributed import (  # type: ignore[attr-defined]
    GradBucket,
    ProcessGroup,
    Store,
    Work,
)
from torch.nn.parallel import DistributedDataParallel

from mesm_data.errors import InputError, MesmError

STATISTICS = ("running_mean", "running_var")
POLL = 0.1  # seconds between two looks at the store
PREPARED = "mesm/prepared"  # the key that rank 0 sets when it has prepared the run


class LostRanks(MesmError):
    """Another rank has died or cannot be reached. Every rank that notices says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among the `world` of a run: `rank` counts over all machines, `local` on this one."""

    rank: int = 0
    world: int = 1
    local: int = 0
    store: Store | None = None  # of all ranks; None if there is one rank
    norms: ProcessGroup | None = None  # for batch norm, whose sums come in between those of the gradients

    @property
    def first(self) -> bool:
        """The one that writes files and speaks."""
        return self.rank == 0

    def gather(self, values: Sequence[float]) -> NDArray[np.float64]:
        """The same few numbers of every rank, float64 (world, len(values)), on every rank."""
        mine = torch.tensor(values, dtype=torch.float64)
        return torch.stack(self._all_gather(mine)).numpy()

    def gather_texts(self, text: str) -> list[str]:
        """A text of every rank, on every rank. As bytes: nothing is pickled."""
        data = text.encode()
        sizes = self.gather([len(data)])[:, 0].astype(int)
        mine = torch.zeros(int(sizes.max()), dtype=torch.uint8)
        mine[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else mine[:0]
        return [bytes(part[:size].numpy()).decode() for part, size in zip(self._all_gather(mine), sizes, strict=True)]

    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """(counts[rank], k) on the CPU of every rank, on every rank."""
        padded = rows.new_zeros(max(counts), rows.shape[1])
        padded[: len(rows)] = rows
        return [part[:count] for part, count in zip(self._all_gather(padded), counts, strict=True)]

    def any(self, flag: bool) -> bool:
        """Whether it is true on a rank."""
        return bool(self.gather([float(flag)]).any())

    @contextmanager
    def together(self) -> Iterator[None]:
        """What fails on one rank fails on all: raises there the MesmError of the first rank that had one.

        All ranks wait for each other at the end of the block.
        """
        error: MesmError | None = None
        try:
            yield
        except LostRanks:
            raise
        except MesmError as caught:
            error = caught
        self.agree(error)

    def agree(self, error: MesmError | None) -> None:
        """Raise the error of the first rank that has one on every rank; only rank 0 is to tell it."""
        if self.world == 1:
            if error is not None:
                raise error
            return
        said = [json.loads(text) for text in self.gather_texts(json.dumps(error and [str(error), error.exit_code]))]
        failed = [rank for rank, one in enumerate(said) if one]
        if not failed:
            return
        message, code = said[failed[0]]
        kind = InputError if code == InputError.exit_code else MesmError
        agreed = kind(f"rank {failed[0]}: {message}" if failed[0] else message)
        agreed.reported_elsewhere = not self.first
        raise agreed

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """The model with gradients that are summed over all ranks in the backward pass; itself if there is one rank.

        A parameter that no rank's batch reached keeps the gradient None; where some rank's did, the others add 0. The
        weights of rank 0 are copied to all.
        """
        if self.world == 1:
            return model
        with self.backend_errors(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of broadcast_buffers: torch 2.6 has no other name for it
            parallel = DistributedDataParallel(
                model, find_unused_parameters=True, broadcast_buffers=False, gradient_as_bucket_view=True
            )
        parallel.register_comm_hook(distributed.group.WORLD, _sum_bucket)
        return parallel

    def sum_statistics(self, sums: Tensor) -> Tensor:
        """The sums of all ranks added up, without a gradient; for `synchronise`. All ranks call it in the same order.

        In a process group of its own: in the backward pass its calls come in between those of DistributedDataParallel,
        in an order that depends on what a rank's batch reaches.
        """
        total = sums.detach().clone(memory_format=torch.contiguous_format)
        with self.backend_errors():
            distributed.all_reduce(total, group=self.norms)
        return total

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Rank 0 runs the block (the others check `first`) and may take as long as it likes, for a download say.

        The others wait at the end without a collective, whose time is limited. Once per connection.
        """
        if self.store is None:
            yield
            return
        try:
            yield
        finally:
            with self.backend_errors():
                if self.first:
                    self.store.set(PREPARED, "")
                while not self.store.check([PREPARED]):
                    time.sleep(POLL)

    @contextmanager
    def backend_errors(self) -> Iterator[None]:
        """Turn what the backends raise when a rank is gone into a LostRanks error."""
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or not _is_backend_error(error):
                raise
            reason = str(error).splitlines()[0][:200]
            raise LostRanks(
                f"rank {self.rank} of {self.world} has lost the others ({reason}): one of them has ended, or the "
                "network is cut. The last checkpoint is whole: start the same command again with --resume"
            ) from None

    def _all_gather(self, mine: Tensor) -> list[Tensor]:
        if self.world == 1:
            return [mine]
        found = [torch.empty_like(mine) for _ in range(self.world)]
        with self.backend_errors():
            distributed.all_gather(found, mine)
        return found


ALONE = Ranks()


class Exchange:
    """A few numbers of every rank, and the mean of the running statistics of batch norm, summed in one collective.

    Started before the backward pass and finished after it, so it takes no time of its own. A rank without items in a
    step adds its old statistics to the mean. They are the same everywhere afterwards, so what is evaluated and saved
    does not depend on the rank.
    """

    def __init__(self, ranks: Ranks, row: Tensor, model: nn.Module) -> None:
        """`row` (k,) float32, on the device of the model; k is the same on all ranks."""
        self._ranks, self._statistics = ranks, list[Tensor]()
        self._work: Work | None = None
        rows = row.new_zeros(ranks.world, len(row))
        rows[ranks.rank] = row
        self._shape, self._sums = rows.shape, rows.flatten()
        if ranks.world > 1:
            self._statistics = [value for name, value in model.named_buffers() if name.endswith(STATISTICS)]
            self._sums = torch.cat([self._sums, *(value.flatten() for value in self._statistics)])
            with ranks.backend_errors():
                self._work = distributed.all_reduce(self._sums, async_op=True)

    def finish(self) -> Tensor:
        """The rows of all ranks, (world, k); the statistics are averaged in place."""
        if self._work is not None:
            with self._ranks.backend_errors():
                self._work.wait()
        sizes = [self._shape.numel(), *(value.numel() for value in self._statistics)]
        rows, *means = torch.split(self._sums, sizes)
        for value, mean in zip(self._statistics, means, strict=True):
            value.copy_(mean.view_as(value) / self._ranks.world)
        return rows.view(self._shape)


def no_sync(model: nn.Module, *, unless: bool) -> AbstractContextManager[Any]:
    """Gradients of this forward and backward pass stay this rank's own, `unless` it is the last one of an update."""
    return nullcontext() if unless or not isinstance(model, DistributedDataParallel) else model.no_sync()


def _sum_bucket(group: ProcessGroup, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """The hook of DistributedDataParallel that adds up gradients; torch's own takes their mean."""
    work: Work = distributed.all_reduce(bucket.buffer(), group=group, async_op=True)
    summed: torch.futures.Future[Tensor] = work.get_future().then(lambda future: future.value()[0])
    return summed


def _is_backend_error(error: RuntimeError) -> bool:
    """gloo has no exception of its own, and its errors pass through autograd: they name its source files."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error).lower() or "NCCL" in str(error)

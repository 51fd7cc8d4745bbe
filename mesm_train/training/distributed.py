"""The ranks of a run (processes that share its steps, on one or several machines), and their communication.

Gradients are summed by torch's DistributedDataParallel during the backward pass. A rank or a modality may be empty in a
step, so the used parameters differ between ranks and steps (`find_unused_parameters`), and running statistics are
averaged (exchange.py) instead of being overwritten by those of rank 0 (`broadcast_buffers=False`).
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
from mesm_data.storage.machine_errors import translate_os_error

POLL_SECONDS = 0.1  # between two queries of the store
PREPARED_KEY = "mesm/prepared"  # the key of the store that rank 0 sets when it has prepared the run
EXCHANGE_FAILED = "summing the gradients over the ranks failed"  # before the error of a backend, in lower case


class LostRanks(MesmError):
    """Another rank has died or cannot be reached. Every rank that notices prints the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process as one of the ranks of a run.

    Attributes:
        rank: The number of this process among all ranks.
        world: The number of ranks.
        local: The number of this process among the ranks of this machine.
        store: The store of all ranks; None if there is one rank.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    store: Store | None = None

    def __deepcopy__(self, memo: object) -> "Ranks":
        """The connection itself, which cannot be copied: a copy of a model whose batch norm sums over ranks has it."""
        return self

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes files and messages."""
        return self.rank == 0

    def gather(self, values: Sequence[float]) -> NDArray[np.float64]:
        """Gather a few numbers of every rank, float64 (world, len(values)), on every rank."""
        return torch.stack(self._all_gather(torch.tensor(values, dtype=torch.float64))).numpy()

    def gather_texts(self, text: str) -> list[str]:
        """Gather a text of every rank on every rank, as bytes: nothing is pickled."""
        data = text.encode()
        sizes = self.gather([len(data)])[:, 0].astype(int)
        padded = torch.zeros(int(sizes.max()), dtype=torch.uint8)
        padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else padded[:0]
        return [bytes(part[:size].numpy()).decode() for part, size in zip(self._all_gather(padded), sizes, strict=True)]

    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """Gather CPU tensors (counts[rank], k) of every rank on every rank."""
        padded = rows.new_zeros(max(counts), rows.shape[1])
        padded[: len(rows)] = rows
        return [part[:count] for part, count in zip(self._all_gather(padded), counts, strict=True)]

    def any(self, flag: bool) -> bool:
        """Whether the flag is true on any rank."""
        return bool(self.gather([float(flag)]).any())

    @contextmanager
    def same_error_everywhere(self) -> Iterator[None]:
        """Make a block that fails on one rank fail on all of them, with the MesmError of the first rank that failed.

        All ranks wait for each other at the end of the block. An OSError of several ranks becomes a MesmError.
        """
        error: MesmError | None = None
        try:
            yield
        except LostRanks:
            raise
        except MesmError as caught:
            error = caught
        except OSError as caught:  # as of a run folder that cannot be written
            if self.world == 1:
                raise
            error = translate_os_error(caught)
        self.raise_first_error(error)

    def raise_first_error(self, error: MesmError | None) -> None:
        """Raise the error of the first rank that has one, on every rank; only rank 0 prints its message."""
        if self.world == 1:
            if error is not None:
                raise error
            return
        errors = [json.loads(text) for text in self.gather_texts(json.dumps(error and [str(error), error.exit_code]))]
        rank = next((rank for rank, entry in enumerate(errors) if entry), None)
        if rank is None:
            return
        message, code = errors[rank]
        kind = InputError if code == InputError.exit_code else MesmError
        first_error = kind(f"rank {rank}: {message}" if rank else message)
        first_error.reported_elsewhere = not self.first
        raise first_error

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """Wrap the model so that gradients are summed over all ranks; returns the model itself if there is one rank.

        A parameter that no rank used keeps the gradient None; if some rank used it, the others add 0. The weights of
        rank 0 are copied to all ranks.
        """
        if self.world == 1:
            return model
        with self.backend_errors(), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # about broadcast_buffers, which has no other name in torch 2.6
            parallel = DistributedDataParallel(
                model, find_unused_parameters=True, broadcast_buffers=False, gradient_as_bucket_view=True
            )
        parallel.register_comm_hook(distributed.group.WORLD, _sum_bucket)
        return parallel

    def sum_statistics(self, sums: Tensor) -> Tensor:
        """Sum a tensor over all ranks, without a gradient; for `synchronise`. All ranks call it in the same order.

        In the backward pass its calls alternate with those of DistributedDataParallel, in the same order on all ranks
        (tests/train/test_ranks.py). A process group of its own would not need that order, but NCCL does: ranks that
        use two groups in different orders can wait for each other forever.
        """
        total = sums.detach().clone(memory_format=torch.contiguous_format)
        with self.backend_errors():
            distributed.all_reduce(total)
        return total

    @contextmanager
    def first_rank_only(self) -> Iterator[None]:
        """Make all other ranks wait at the end of the block for rank 0, for any time, as for a download.

        The block itself checks `first`. There is no collective, whose time is limited. Use it once per connection.
        """
        if self.store is None:
            yield
            return
        try:
            yield
        finally:
            with self.backend_errors():
                if self.first:
                    self.store.set(PREPARED_KEY, "")
                while not self.store.check([PREPARED_KEY]):
                    time.sleep(POLL_SECONDS)

    @contextmanager
    def backend_errors(self) -> Iterator[None]:
        """Turn the errors of the backends about lost ranks into LostRanks."""
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or not _is_backend_error(error):
                raise
            reason = str(error).splitlines()[0][:200]
            raise LostRanks(
                f"rank {self.rank} of {self.world} has lost the others ({reason}): one of them has ended, or the "
                "network is down. The last checkpoint is complete: run the same command again with --resume"
            ) from None

    def _all_gather(self, value: Tensor) -> list[Tensor]:
        if self.world == 1:
            return [value]
        values = [torch.empty_like(value) for _ in range(self.world)]
        with self.backend_errors():
            distributed.all_gather(values, value)
        return values


ALONE = Ranks()


def no_sync(model: nn.Module, *, unless: bool) -> AbstractContextManager[Any]:
    """Do not sum the gradients of this forward and backward pass over the ranks, unless `unless` is true."""
    return nullcontext() if unless or not isinstance(model, DistributedDataParallel) else model.no_sync()


def _sum_bucket(group: ProcessGroup, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """The communication hook of DistributedDataParallel that sums gradients; the default one averages them."""
    work: Work = distributed.all_reduce(bucket.buffer(), group=group, async_op=True)
    summed: torch.futures.Future[Tensor] = work.get_future().then(_first_value)
    return summed


def _first_value(future: torch.futures.Future[Any]) -> Tensor:
    """What a finished collective gives; its error with EXCHANGE_FAILED before it, as not all errors name the backend.

    Of gloo: "Application timeout caused pair closure".
    """
    try:
        value: Tensor = future.value()[0]
    except RuntimeError as error:
        raise RuntimeError(f"{EXCHANGE_FAILED}: {error}") from error
    return value


def _is_backend_error(error: RuntimeError) -> bool:
    """Whether a backend raised it. gloo has no exception class, and autograd passes its errors on as text."""
    named = any(name in str(error).lower() for name in ("gloo", "nccl", EXCHANGE_FAILED))
    return named or isinstance(error, distributed.DistError)

"""The ranks of a run: processes that share its steps, on one machine or several. Everything that passes between them.

Gradients are summed by one explicit reduction after the backward pass, not by DistributedDataParallel: a rank or a
modality may be empty in a step, so which parameters get a gradient differs from rank to rank and step to step; here
that is one bit a parameter beside the gradients, every rank makes the same calls in the same order whatever it holds,
and the sums have one order. What is given up is the overlap with the backward pass (benchmarks/scale.py counts it).
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.distributed import FileStore, PrefixStore, Store, rendezvous  # type: ignore[attr-defined]

from mesm_data.errors import InputError, MesmError
from mesm_train.launch import RENDEZVOUS

BUCKET = 2**23  # numbers that are reduced at a time: 32 MiB
STATISTICS = ("running_mean", "running_var")
LINGER = 5.0  # seconds
START = timedelta(seconds=300)  # that ranks are given at least to start: others may still be importing


class LostRanks(MesmError):
    """Another rank has died or cannot be reached. Every rank that notices says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among the `world` of a run: `rank` counts over all machines, `local` on this one."""

    rank: int = 0
    world: int = 1
    local: int = 0

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
        agreed.said_elsewhere = not self.first
        raise agreed

    def reduce(self, model: nn.Module) -> None:
        """Sum the gradients of all ranks, and average the running statistics of batch norm, in place.

        A parameter that no rank's batch reached keeps the gradient None; where some rank's did, the others add 0. The
        statistics are the same everywhere afterwards, so what is evaluated and saved does not depend on the rank.
        """
        if self.world == 1:
            return
        learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
        numbers = [buffer for name, buffer in model.named_buffers() if name.endswith(STATISTICS)]
        reached = torch.tensor([float(p.grad is not None) for p in learnt], device=learnt[0].device)
        last = torch.cat([reached, *(number.flatten() for number in numbers)])
        groups = list(_buckets(learnt))
        flats = [torch.cat([_gradient(p) for p in group]) for group in groups]
        with _noticed(self):
            works = [distributed.all_reduce(flat, async_op=True) for flat in (last, *flats)]
            for work in works:
                work.wait()
        seen = iter((last[: len(learnt)] > 0).tolist())
        for group, flat in zip(groups, flats, strict=True):
            for parameter, gradient in zip(group, torch.split(flat, [p.numel() for p in group]), strict=True):
                parameter.grad = gradient.view_as(parameter) if next(seen) else None
        parts = torch.split(last[len(learnt) :], [number.numel() for number in numbers])
        for number, part in zip(numbers, parts, strict=True):
            number.copy_(part.view_as(number) / self.world)

    def _all_gather(self, mine: Tensor) -> list[Tensor]:
        if self.world == 1:
            return [mine]
        found = [torch.empty_like(mine) for _ in range(self.world)]
        with _noticed(self):
            distributed.all_gather(found, mine)
        return found


ALONE = Ranks()


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """The parameters in their order, in groups of about BUCKET numbers."""
    group: list[nn.Parameter] = []
    for parameter in parameters:
        group.append(parameter)
        if sum(p.numel() for p in group) >= BUCKET:
            yield group
            group = []
    if group:
        yield group


def _gradient(parameter: nn.Parameter) -> Tensor:
    return (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).flatten()


@contextmanager
def _noticed(ranks: Ranks) -> Iterator[None]:
    """Turn what the backends raise when a rank is gone into a sentence."""
    try:
        yield
    except RuntimeError as error:  # gloo and nccl have no exceptions of their own for it
        reason = str(error).splitlines()[0][:200]
        raise LostRanks(
            f"rank {ranks.rank} of {ranks.world} has lost the others ({reason}): one of them has ended, or the network "
            "is cut. The last checkpoint is whole: start the same command again with --resume"
        ) from None


def here() -> Ranks:
    """This process, as torchrun or `--nproc-per-node` told it through its environment; alone if they did not."""
    told = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if not told["RANK"] or not told["WORLD_SIZE"]:
        return ALONE
    try:
        found = Ranks(rank=int(told["RANK"]), world=int(told["WORLD_SIZE"]), local=int(told["LOCAL_RANK"] or 0))
    except ValueError:
        raise InputError(f"the environment has {told}: expected numbers, as torchrun sets them") from None
    if not 0 <= found.rank < found.world:
        raise InputError(f"the environment has RANK={found.rank} of WORLD_SIZE={found.world}")
    return found


@contextmanager
def connected(device: str, timeout: float) -> Iterator[Ranks]:
    """The ranks of this run, connected: gloo between processors, NCCL between graphics cards.

    Args:
        device: of the settings; "cpu" needs no NCCL.
        timeout: seconds after which a rank that hears nothing of the others gives up.
    """
    ranks = here()
    if ranks.world == 1:
        yield ranks
        return
    cards = torch.cuda.is_available() and device != "cpu"
    if cards:
        torch.cuda.set_device(ranks.local)
    limit, file = timedelta(seconds=timeout), os.environ.get(RENDEZVOUS)
    with _noticed(ranks):
        if file:
            store: Store = FileStore(file, ranks.world)
        else:
            start = max(limit, START)
            store = _fresh(next(rendezvous("env://", timeout=start))[0], ranks, start)
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cards else "gloo",
            store=store,
            rank=ranks.rank,
            world_size=ranks.world,
            timeout=limit,
        )
    try:
        yield ranks
    except LostRanks:
        raise  # there may be nobody left to take leave of
    except MesmError:
        _leave(store, ranks)
        raise
    _leave(store, ranks)
    distributed.destroy_process_group()


def _leave(store: Store, ranks: Ranks) -> None:
    """Wait until all ranks want to go, for LINGER seconds at most.

    A process that ends resets its connections, and what others have not yet read of the last exchange would be lost.
    """
    deadline = time.monotonic() + LINGER
    try:
        store.add("mesm/left", 1)
        while store.add("mesm/left", 0) < ranks.world and time.monotonic() < deadline:
            time.sleep(0.02)
    except RuntimeError:  # the store has gone with the process that held it
        return


def _fresh(store: Store, ranks: Ranks, timeout: timedelta) -> Store:
    """A part of the store where nothing stands that ranks wrote before torchrun started them again.

    torchrun keeps its store over restarts, and counts them on each machine for itself; gloo then finds addresses of
    processes that are gone, and waits for them (torch 2.13). So rank 0 makes up a name: each other rank says hello with
    a word of its own, and only the answer to that very word counts.
    """
    deadline = time.monotonic() + timeout.total_seconds()
    if ranks.first:
        name, silent = uuid4().hex, set(range(1, ranks.world))
        while silent:
            for rank in sorted(silent):
                if store.check([f"mesm/hello/{rank}"]):
                    word = store.get(f"mesm/hello/{rank}").decode()
                    store.set(f"mesm/answer/{rank}/{word}", name)
                if store.check([f"mesm/{name}/{rank}"]):
                    silent.discard(rank)
            if silent and time.monotonic() > deadline:
                raise RuntimeError(f"nothing heard of {len(silent)} ranks, {min(silent)} among them")
            time.sleep(0.02)
    else:
        word = uuid4().hex
        store.set(f"mesm/hello/{ranks.rank}", word)
        store.wait([f"mesm/answer/{ranks.rank}/{word}"], timeout)
        name = store.get(f"mesm/answer/{ranks.rank}/{word}").decode()
        store.set(f"mesm/{name}/{ranks.rank}", "here")
    return PrefixStore(f"mesm/{name}", store)


def all_reduce_sums(sums: Tensor) -> Tensor:
    """The sums of all ranks added up, without a gradient. Every rank must call it, in the same order."""
    total = sums.detach().clone(memory_format=torch.contiguous_format)
    with _noticed(here()):
        distributed.all_reduce(total)
    return total

"""How the ranks of a run find each other and take leave: by what torchrun sets in the environment."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]

from mesm_data.errors import InputError, MesmError
from mesm_train.training.distributed import ALONE, LostRanks, Ranks

LINGER = 5.0  # seconds
START = timedelta(seconds=300)  # that ranks are given at least to start: others may still be importing


def here() -> Ranks:
    """This process, as torchrun or `--nproc-per-node` set it in the environment; alone if they did not."""
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
def connected(device: str, timeout: float, store: Store | None = None) -> Iterator[Ranks]:
    """The ranks of this run, connected: gloo between processors, NCCL between graphics cards.

    Ranks that share a card are connected by gloo, through the host's memory: NCCL refuses them. That is slow.

    Args:
        device: of the settings; "cpu" needs no NCCL.
        timeout: seconds after which a rank that hears nothing of the others gives up.
        store: through which the ranks find each other; None: the one that torchrun's environment names.
    """
    ranks = here()
    if ranks.world == 1:
        yield ranks
        return
    cards = torch.cuda.device_count() if device != "cpu" else 0
    shared = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > cards
    if cards:
        torch.cuda.set_device(ranks.local % cards)
    limit = timedelta(seconds=timeout)
    with ranks.backend_errors():
        store = store or _torchrun_store(max(limit, START))
        distributed.init_process_group(
            "gloo" if shared else "cpu:gloo,cuda:nccl",
            store=store,
            rank=ranks.rank,
            world_size=ranks.world,
            timeout=limit,
        )
        norms = distributed.new_group(timeout=limit)
    ranks = replace(ranks, store=store, norms=norms)
    try:
        yield ranks
    except LostRanks:
        raise  # there may be nobody left to take leave of
    except MesmError:
        _leave(store, ranks, failed=True)
        raise
    _leave(store, ranks, failed=False)
    distributed.destroy_process_group()


def _torchrun_store(timeout: timedelta) -> Store:
    """The store that the environment names, without what stands there of processes that torchrun started before.

    torchrun keeps its store over restarts (torch 2.13), and gloo would wait for processes that are gone. On one machine
    the number of the restart tells them apart; machines count their restarts each for itself.
    """
    environment = os.environ
    shared = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    machines = environment.get("LOCAL_WORLD_SIZE") != environment.get("WORLD_SIZE")
    if shared and machines and environment.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        raise InputError(
            "torchrun cannot restart ranks on several machines through its own store: set "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where torchrun starts, or leave --max-restarts out"
        )
    store: Store = next(rendezvous("env://", timeout=timeout))[0]
    return PrefixStore(f"restart {environment['TORCHELASTIC_RESTART_COUNT']}", store) if shared else store


def _leave(store: Store, ranks: Ranks, *, failed: bool) -> None:
    """Wait until all ranks want to go, for LINGER seconds at most.

    A process that ends resets its connections, and what others have not yet read of the last exchange would be lost.
    Of ranks that failed, rank 0, which has the message, ends first: torchrun ends the others as soon as one has failed.
    """
    deadline = time.monotonic() + LINGER
    try:
        store.add("mesm/left", 1)
        while store.add("mesm/left", 0) < ranks.world and time.monotonic() < deadline:
            time.sleep(0.02)
        while failed and not ranks.first and time.monotonic() < deadline:
            time.sleep(0.02)
            store.add("mesm/left", 0)  # fails when rank 0, which holds the store, has ended
    except RuntimeError:  # the store has gone with the process that held it
        return

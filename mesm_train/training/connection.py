"""Connects and disconnects the ranks of a run, as the environment variables of torchrun describe them."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]

from mesm_data.errors import InputError, MesmError, first_line
from mesm_train.training.distributed import ALONE, LostRanks, Ranks

LEAVE_SECONDS = 5.0
MIN_START_TIMEOUT = timedelta(seconds=300)  # for ranks to start: some may still be importing


def ranks_from_environment() -> Ranks:
    """The rank that torchrun or `--nproc-per-node` gave to this process; a single rank if they did not start it."""
    variables = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if not variables["RANK"] or not variables["WORLD_SIZE"]:
        return ALONE
    try:
        rank, world, local = (int(variables[name] or 0) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except ValueError:
        raise InputError(f"the environment has {variables}: expected numbers, as torchrun sets them") from None
    if not 0 <= rank < world:
        raise InputError(f"the environment has RANK={rank} of WORLD_SIZE={world}")
    return Ranks(rank=rank, world=world, local=local)


@contextmanager
def connect_ranks(device: str, timeout: float, store: Store | None = None) -> Iterator[Ranks]:
    """Connect the ranks of this run: by gloo between CPUs, by NCCL between GPUs.

    Ranks that share a GPU are connected by gloo, through the host's memory: NCCL does not support them. This is slow.

    Args:
        device: The setting; "cpu" needs no NCCL.
        timeout: Seconds after which a rank that waits for others gives up.
        store: Where the ranks find each other; by default the store that torchrun's environment names.
    """
    ranks = ranks_from_environment()
    if ranks.world == 1:
        yield ranks
        return
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    is_shared = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > gpus
    if gpus:
        torch.cuda.set_device(ranks.local % gpus)
    limit = timedelta(seconds=timeout)
    with ranks.backend_errors():
        store = store or _torchrun_store(max(limit, MIN_START_TIMEOUT))
        distributed.init_process_group(
            "gloo" if is_shared else "cpu:gloo,cuda:nccl",
            store=store,
            rank=ranks.rank,
            world_size=ranks.world,
            timeout=limit,
        )
    ranks = replace(ranks, store=store)
    try:
        yield ranks
    except LostRanks:
        raise  # there may be no other rank left
    except MesmError:
        _disconnect(store, ranks, failed=True)
        raise
    _disconnect(store, ranks, failed=False)
    distributed.destroy_process_group()


def _torchrun_store(timeout: timedelta) -> Store:
    """The store that the environment names, separated from the entries of processes before a restart.

    torchrun keeps its store over restarts (torch 2.13), and gloo would wait for processes that no longer exist. On one
    machine the number of the restart separates them; several machines count their restarts independently.
    """
    environment = os.environ
    shared = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    machines = environment.get("LOCAL_WORLD_SIZE") != environment.get("WORLD_SIZE")
    if shared and machines and environment.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        raise InputError(
            "torchrun cannot restart ranks on several machines through its own store: set "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where torchrun starts, or omit --max-restarts"
        )
    try:
        store: Store = next(rendezvous("env://", timeout=timeout))[0]
    except distributed.DistError as error:
        place = f"{environment.get('MASTER_ADDR')}:{environment.get('MASTER_PORT')}"
        raise MesmError(
            f"rank {environment['RANK']} cannot meet the others at {place} ({first_line(error)}): MASTER_ADDR and "
            "MASTER_PORT must name a free port of rank 0's machine that the others can reach"
        ) from None
    return PrefixStore(f"restart {environment['TORCHELASTIC_RESTART_COUNT']}", store) if shared else store


def _disconnect(store: Store, ranks: Ranks, *, failed: bool) -> None:
    """Wait until all ranks disconnect, for at most LEAVE_SECONDS.

    A process that ends resets its connections, and data that others have not yet read would be lost. If the ranks
    failed, rank 0, which prints the message, ends first: torchrun ends the others as soon as one has failed.
    """
    deadline = time.monotonic() + LEAVE_SECONDS
    try:
        store.add("mesm/left", 1)
        while store.add("mesm/left", 0) < ranks.world and time.monotonic() < deadline:
            time.sleep(0.02)
        while failed and not ranks.first and time.monotonic() < deadline:
            time.sleep(0.02)
            store.add("mesm/left", 0)  # fails when rank 0, which hosts the store, has ended
    except RuntimeError:  # the store ended with the process that hosted it
        return

"""Real ranks for tests: processes that are forked from a server with torch in it, connected by gloo on this machine.

What runs in a rank stands here, where the forked processes can import it.
"""

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.distributed import TCPStore
from torch.nn.parallel import DistributedDataParallel

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import MesmError
from mesm_data.storage.files import atomic_write
from mesm_train.config.model_settings import ModelSettings, SparseSettings
from mesm_train.config.recipe_files import load_recipe
from mesm_train.data.batch import Batch
from mesm_train.models.fe2e_mesm import Model
from mesm_train.models.importance import update_importance
from mesm_train.models.norm import synchronise
from mesm_train.models.sparse import SparseStack
from mesm_train.models.tiles import TiledStack
from mesm_train.training import distributed as training_ranks
from mesm_train.training.connection import connect_ranks
from mesm_train.training.distributed import LostRanks, Ranks, no_sync
from mesm_train.training.exchange import Exchange

SMALL = ModelSettings(
    modalities=("v", "a"),
    channels=(4, 8),
    stem_blocks=0,
    hidden=16,
    dim=8,
    layers=1,
    heads=2,
    feedforward=16,
    dropout=0,
)
COUNTS = [(3, 9_000), (0, 20_000), (2, 0), (1, 4_000), (0, 0), (4, 12_000)]  # faces and samples of each utterance

server = multiprocessing.get_context("forkserver")
# What the processes import but for this preparation, each anew: torch._dynamo comes with the first optimizer and takes
# more than half of a short run's time. In Python 3.11 the server does not find this module, but what it imports.
PRELOADED = "pandas pyarrow.parquet pytest torch._dynamo transformers.models.albert.modeling_albert mesm_train.runs.run"
server.set_forkserver_preload(PRELOADED.split())


def ranks(
    world: int, work: Callable[..., Any], *arguments: Any, folder: Path, timeout: float = 60, limit: float = 20
) -> list[Any]:
    """What `work(ranks, *arguments)` returns on each of `world` ranks; a MesmError as (its class, its text).

    `limit`: seconds of a collective.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pipes, processes = [], []
    for rank in range(world):
        mine, theirs = server.Pipe(duplex=False)
        process = server.Process(target=_rank, args=(rank, world, folder / "store", theirs, work, arguments, limit))
        process.start()
        theirs.close()
        pipes.append(mine)
        processes.append(process)
    results = []
    for pipe, process in zip(pipes, processes, strict=True):
        try:
            results.append(pipe.recv() if pipe.poll(timeout) else "silent")
        except EOFError:
            process.join()
            results.append(process.exitcode)
    for process in processes:
        process.join(timeout)
        assert process.exitcode is not None, "a rank hangs"
    return results


def start(world: int, work: Callable[..., Any], *arguments: Any, folder: Path) -> list[Any]:
    """The processes of `world` ranks that do `work`, to be killed; what they return is lost."""
    folder.mkdir(parents=True, exist_ok=True)
    processes = [
        server.Process(target=_rank, args=(rank, world, folder / "store", None, work, arguments))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    return processes


def _rank(
    rank: int,
    world: int,
    store: Path,
    pipe: Any,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
    limit: float = 20,
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo"}
    try:
        with connect_ranks("cpu", limit, _store(rank, world, store)) as connection:
            result = work(connection, *arguments)
            if pipe is not None:
                pipe.send(result)
    except MesmError as error:
        if pipe is None:
            raise SystemExit(1) from None
        pipe.send((type(error).__name__, str(error), error.reported_elsewhere))


def _store(rank: int, world: int, file: Path) -> TCPStore | None:
    """The store that rank 0 serves at a free port, which it writes to `file`: as torchrun's ends with its process."""
    if world == 1:
        return None
    if rank == 0:
        store = TCPStore("127.0.0.1", 0, world, is_master=True, wait_for_workers=False)
        with atomic_write(file) as written:
            written.write(str(store.port).encode())
        return store
    deadline = time.monotonic() + 60
    while not file.exists():
        if time.monotonic() > deadline:
            raise MesmError("rank 0 serves no store")
        time.sleep(0.02)
    return TCPStore("127.0.0.1", int(file.read_text()), world, is_master=False)


def batch(indices: list[int]) -> Batch:
    """Utterances of COUNTS with content of their own."""
    faces, sounds = [np.zeros((0, 48, 48, 3), np.uint8)], [np.zeros(0, np.int16)]
    for index in indices:
        random = np.random.default_rng(index)
        faces.append(random.integers(0, 256, (COUNTS[index][0], 48, 48, 3)).astype(np.uint8))
        sounds.append(random.integers(-9_000, 9_000, COUNTS[index][1]).astype(np.int16))
    return Batch(
        keys=tuple(map(str, indices)),
        faces=torch.from_numpy(np.concatenate(faces)),
        face_counts=torch.tensor([COUNTS[index][0] for index in indices], dtype=torch.int64),
        samples=torch.from_numpy(np.concatenate(sounds)),
        sample_counts=torch.tensor([COUNTS[index][1] for index in indices], dtype=torch.int64),
        tokens=torch.zeros(len(indices), 0, dtype=torch.int64),
        token_counts=torch.zeros(len(indices), dtype=torch.int64),
        labels=torch.tensor([[float((index + k) % 2) for k in range(6)] for index in indices]).reshape(-1, 6),
    )


def gradients(connection: Ranks, deal: list[list[int]], sync: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gradients of the mean loss over a step that is dealt in this way, and the running statistics after it.

    As arrays (or None): tensors would pass between processes as shared memory that ends with the sender.
    """
    torch.manual_seed(0)
    model = Model(SMALL)
    if sync and connection.world > 1:
        synchronise(model, connection.sum_statistics)
    if not sync:
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    part = batch(deal[connection.rank])
    parallel = connection.data_parallel(model)
    logits = parallel(part)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, part.labels, reduction="sum")
    exchange = Exchange(connection, torch.zeros(1), model)
    (loss / (6 * sum(map(len, deal)))).backward()
    exchange.finish()
    gradients = {name: None if p.grad is None else p.grad.numpy() for name, p in model.named_parameters()}
    return gradients, {name: value.numpy() for name, value in model.named_buffers() if "running" in name}


def order_of_sums(connection: Ranks, deal: list[list[int]]) -> list[list[int]]:
    """The sizes of what a step with synchronised batch norm sums over the ranks, in order: of FE2E, MESM, its tiles.

    Every other utterance has text. The buckets of gradients are small, so that there are many.
    """
    from transformers import AlbertConfig, AlbertModel

    sizes = {"hidden_size": 16, "embedding_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = AlbertConfig(vocab_size=16, num_hidden_layers=1, **sizes)  # type: ignore[arg-type]
    part = batch(deal[connection.rank])
    text_counts = torch.tensor([4 * (int(key) % 2) for key in part.keys], dtype=torch.int64)
    part = replace(part, tokens=torch.full((len(part.keys), 4), 5), token_counts=text_counts)
    sum_over_ranks = torch.distributed.all_reduce
    orders: list[list[int]] = []

    def recorded_sum(values: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        orders[-1].append(values.numel())
        return sum_over_ranks(values, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributed, "all_reduce", recorded_sum)
        patch.setattr(training_ranks, "DistributedDataParallel", partial(DistributedDataParallel, bucket_cap_mb=0.001))
        for kind, tile in (("fe2e", 1), ("mesm", 1), ("mesm", 4)):
            sparse = SparseSettings(tile=tile)
            settings = replace(SMALL, modalities=("t", "v", "a"), kind=kind, sparse=sparse)  # type: ignore[arg-type]
            model = Model(settings, AlbertModel(config))
            synchronise(model, connection.sum_statistics)
            parallel = connection.data_parallel(model)
            orders.append([])
            logits = parallel(part)
            exchange = Exchange(connection, torch.zeros(1), model)
            logits.sum().backward()
            exchange.finish()
    return orders


def accumulated(connection: Ranks, deals: list[list[list[int]]]) -> dict[str, Any]:
    """Gradients of the sum of losses over several micro-batches, each dealt in its own way; summed over ranks once."""
    torch.manual_seed(0)
    model = Model(SMALL)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    parallel = connection.data_parallel(model)
    for number, deal in enumerate(deals, 1):
        part = batch(deal[connection.rank])
        with no_sync(parallel, unless=number == len(deals)):
            logits = parallel(part)
            torch.nn.functional.binary_cross_entropy_with_logits(logits, part.labels, reduction="sum").backward()
    return {name: None if p.grad is None else p.grad.numpy() for name, p in model.named_parameters()}


def slow_to_prepare(connection: Ranks, seconds: float) -> bool:
    """Rank 0 prepares for longer than the time limit of a collective."""
    with connection.same_error_everywhere(), connection.first_rank_only():
        if connection.first:
            time.sleep(seconds)
    return bool(connection.any(connection.rank == 1))


def data_parallel(connection: Ranks, deal: list[list[int]], engine: str) -> dict[str, Any]:
    """Gradients of a sparse stack's sum over pictures that are dealt in this way, under torch's own DDP."""
    sparse = SparseSettings(engine=engine, selection="gate", p=0.7, tile=1, anneal_epochs=0)  # type: ignore[arg-type]
    settings = ModelSettings(kind="mesm", channels=(4, 8), stem_blocks=0, hidden=16, dim=8, heads=2, sparse=sparse)
    torch.manual_seed(0)
    stack: torch.nn.Module = SparseStack(settings, 3, (16, 16), 5, "the stack").eval()
    pictures, text = torch.randn(6, 3, 16, 16), torch.randn(6, 5)
    if connection.world > 1:
        stack = torch.nn.parallel.DistributedDataParallel(stack)
    mine = deal[connection.rank]
    vectors, _ = stack(pictures[mine], text[mine])
    (vectors.square().sum() * connection.world).backward()  # DDP takes the mean over ranks
    return {name.removeprefix("module."): p.grad.numpy() for name, p in stack.named_parameters() if p.grad is not None}


def importance(connection: Ranks, deal: list[list[int]]) -> list[Any]:
    """The importance of a sparse stack's tiles after an update on pictures that are dealt in this way."""
    sparse = SparseSettings(selection="gate", p=0.4, anneal_epochs=2)
    settings = ModelSettings(kind="mesm", channels=(4, 8, 8), stem_blocks=0, hidden=16, dim=8, heads=2, sparse=sparse)
    torch.manual_seed(0)
    stack = TiledStack(settings, 3, (32, 32), 5, "the stack").double()
    pictures, text = torch.randn(6, 3, 32, 32, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    several = connection.world > 1
    if several:
        synchronise(stack, connection.sum_statistics)
    stack.set_epoch(1.0, 10)
    mine = deal[connection.rank]
    vectors, _ = stack(pictures[mine], text[mine])
    vectors.square().sum().backward()
    update_importance(stack.modules(), connection.sum_statistics if several else None)
    return [value.numpy() for name, value in stack.state_dict().items() if name.endswith("importance.value")]


def unreached(connection: Ranks) -> list[bool]:
    """Which of three layers has a gradient: used by no rank, by one rank, by all."""

    class Some(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            used = [self.layers[2], *([self.layers[1]] if connection.rank == 1 else [])]
            return torch.stack([layer(x).sum() for layer in used]).sum()

    model = Some()
    parallel = connection.data_parallel(model)
    parallel(torch.ones(2)).backward()
    return [layer.weight.grad is not None for layer in model.layers]  # type: ignore[union-attr]


def failing(connection: Ranks, error: Exception) -> None:
    """Rank 1 fails."""
    with connection.same_error_everywhere():
        if connection.rank == 1:
            raise error


def dying(connection: Ranks) -> str:
    """Rank 1 is killed; the others wait for it."""
    try:
        connection.gather([0.0])  # all are connected: one that dies before is noticed by `connected`
        if connection.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        connection.gather([1.0])
    except LostRanks as error:
        return str(error)
    return "nothing noticed"


def trained(connection: Ranks, recipe: str, sets: list[str], run: Path, stop_after: int | None) -> list[Any]:
    """Train, with a record of what this rank was given: (epoch, step, keys). `stop_after` so many steps, on rank 0."""
    from mesm_train.runs import run as runs
    from mesm_train.training import loop
    from mesm_train.training.progress import NullLogger

    batches_read: list[Any] = []
    forward = loop.forward

    def recorded(setup: Any, model: Any, batch: Any, weight: Any, position: Any, count: int) -> Any:
        batches_read.append((position.epoch, position.step, batch.keys))
        return forward(setup, model, batch, weight, position, count)

    loop.forward = recorded
    config = load_recipe(recipe, sets)

    def stop() -> bool:
        return connection.first and stop_after is not None and len(batches_read) >= stop_after

    runs.write_report = lambda setup, run: run  # pictures have no part in this, and take half of the time
    ended = runs.start_run(config, run, resume=True, stop=stop, logger=NullLogger(), ranks=connection)
    assert ended == (stop_after is None)
    return batches_read


def trained_with_another_path(connection: Ranks, recipe: str, run: Path, sets: list[str], how: str) -> Any:
    """Train; on rank 1 the run has another path: a "link" to it, seen a second later, or a "copy" of its settings."""
    own = run if connection.first else run.with_name("own")

    def appear() -> None:
        while not (run / "config.yaml").exists():
            time.sleep(0.01)
        if how == "link":
            time.sleep(1)
            own.symlink_to(run)
        else:
            own.mkdir()
            shutil.copy(run / "config.yaml", own)

    if not connection.first:
        Thread(target=appear, daemon=True).start()
    return trained(connection, recipe, sets, own, None)


def trained_with_other_settings(connection: Ranks, recipe: str, run: Path, others: list[str]) -> list[Any]:
    """Train; rank 1 has settings of its own."""
    return trained(connection, recipe, [] if connection.first else others, run, None)


def answers(connection: Ranks, recipe: str, run: Path) -> tuple[Any, bytes]:
    """What a model without training answers to the train part."""
    from neutral import neutral_statistics

    from mesm_train.training import evaluation
    from mesm_train.training.setup import prepare_run

    evaluation.EVAL_BATCH = 5
    setup = prepare_run(load_recipe(recipe), run, ranks=connection)
    predictions = evaluation.predict(setup, "train", neutral_statistics(len(setup.heads.outputs)))
    return predictions.keys, predictions.logits.tobytes()


def diverging(connection: Ranks, recipe: str, run: Path) -> None:
    """The model of rank 1 is broken in the third step."""
    from mesm_train.runs.run import start_run
    from mesm_train.training import loop
    from mesm_train.training.progress import NullLogger

    forward = loop.forward

    def broken(setup: Any, model: Any, batch: Any, weight: Any, position: Any, count: int) -> Any:
        if connection.rank == 1 and position.step == 1:
            for parameter in setup.model.parameters():
                parameter.data.fill_(float("nan"))
        return forward(setup, model, batch, weight, position, count)

    loop.forward = broken
    start_run(load_recipe(recipe, []), run, resume=False, stop=lambda: False, logger=NullLogger(), ranks=connection)


def journal(run: Path) -> list[Any]:
    """What must not differ between two runs on as many ranks: every loss and every score, in order."""
    timing = ("seconds", "samples_per_s", "data_wait", "tflops", "memory_gb")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in timing} for line in lines]


def small_recipe(folder: Path, dataset: Path) -> str:
    """Small settings with two epochs of five steps."""
    rows = Dataset(dataset).rows
    labels = {key: row["labels"]["emotion"] for key, row in rows.items() if row["status"] == "ok"}
    by_label: dict[str, list[str]] = {}
    for key, label in labels.items():
        if label in ("ang", "exc", "fru", "hap", "neu", "sad"):
            by_label.setdefault(label, []).append(key)
    parts = {
        "train": [key for keys in by_label.values() for key in (keys if len(keys) == 1 else keys[1:])],
        "valid": [keys[0] for keys in by_label.values() if len(keys) > 1][1:],
        "test": [keys[0] for keys in by_label.values() if len(keys) > 1][:1],
    }
    (folder / "split.yaml").write_text(yaml.safe_dump(parts))
    settings = {
        "name": "ranks", "data": str(dataset), "split": str(folder / "split.yaml"), "labels": "six",
        "model": {
            "modalities": ["v", "a"], "channels": [4, 8], "stem_blocks": 0, "hidden": 16, "dim": 8, "layers": 1,
            "heads": 2, "feedforward": 16,
        },
        "optim": {"lr": 1e-3, "batch": -(-len(parts["train"]) // 5), "epochs": 2, "clip_norm": 1.0},
        "ranks": {"sync_batch_norm": False},
        "augment": {"face_flip": 0.5, "face_shift": 2, "face_light": 0.1, "mask_seconds": 0.3, "mask_mels": 8},
    }  # fmt: skip
    path = folder / "ranks.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)

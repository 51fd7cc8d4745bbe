"""The parts of a run on their own: the order of an epoch, batches, the journal, checkpoints, the learning rate."""

import json
import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mesm_data.errors import MesmError
from mesm_data.shards.reader import Dataset
from mesm_train import checkpoint
from mesm_train.config import LoaderConfig, OptimConfig
from mesm_train.data.loader import Loader
from mesm_train.data.plan import derived, in_order, steps
from mesm_train.journal import Journal
from mesm_train.optimize import autocast, learning_rate

keys = st.lists(st.text("abc012_", min_size=1, max_size=6), unique=True, max_size=40)


@given(keys=keys, seed=st.integers(0, 2**62), epoch=st.integers(0, 50), batch=st.integers(1, 9))
def test_every_key_is_in_an_epoch_exactly_once(keys: list[str], seed: int, epoch: int, batch: int) -> None:
    plan = steps(keys, seed=seed, epoch=epoch, batch=batch)
    assert Counter(key for step in plan for key in step) == Counter(keys)
    assert all(len(step) == batch for step in plan[:-1])
    assert plan == steps(keys[::-1], seed=seed, epoch=epoch, batch=batch)
    assert sorted(key for step in in_order(keys, batch=batch) for key in step) == sorted(keys)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    names = [f"k{number}" for number in range(50)]
    orders = [tuple(steps(names, seed=seed, epoch=epoch, batch=4)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4
    assert len({derived(0, "step", epoch, step) for epoch in range(30) for step in range(30)}) == 900


@pytest.fixture(scope="module")
def loaded(dataset: Path) -> tuple[Dataset, dict[str, np.ndarray]]:  # type: ignore[type-arg]
    held = Dataset(dataset)
    return held, {key: np.array([index % 2, 1], np.float32) for index, key in enumerate(held.keys)}


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 1), (4, 1), (3, 8)])
def test_batches_come_in_order_and_whole_whatever_the_threads(
    loaded: tuple[Dataset, dict[str, np.ndarray]],
    threads: int,
    prefetch: int,  # type: ignore[type-arg]
) -> None:
    held, targets = loaded
    loader = Loader(held, targets, None, 10, LoaderConfig(threads=threads, prefetch=prefetch))
    plan = steps(held.keys, seed=1, epoch=0, batch=3)
    seen = list(loader.batches(plan))
    assert [batch.keys for batch in seen] == plan
    for batch in seen:
        for index, alone in enumerate(batch.split()):
            sample = held[batch.keys[index]]
            assert np.array_equal(alone.faces.numpy(), sample.faces)
            assert np.array_equal(alone.samples.numpy(), sample.samples)
            assert np.array_equal(alone.labels[0].numpy(), targets[sample.key])


def test_an_abandoned_stream_leaves_no_thread_behind(loaded: tuple[Dataset, dict[str, np.ndarray]]) -> None:  # type: ignore[type-arg]
    import threading

    held, targets = loaded
    before = threading.active_count()
    stream = Loader(held, targets, None, 10, LoaderConfig()).batches(in_order(held.keys, batch=2))
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_a_journal_survives_a_torn_line_and_forgets_what_is_done_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    for step in range(5):
        journal.append({"step": step})
    with journal.path.open("a") as file:
        file.write('{"step": 5, "lo')
    assert [record["step"] for record in journal.read()] == [0, 1, 2, 3, 4]
    journal.rewind(lambda record: record["step"] < 3)
    assert [json.loads(line)["step"] for line in journal.path.read_text().splitlines()] == [0, 1, 2]
    journal.append({"step": 3})
    assert [record["step"] for record in journal.read()] == [0, 1, 2, 3]


def write(folder: Path, step: int, *, best: bool = False) -> None:
    checkpoint.save(folder, step, {"w": torch.full((3,), float(step))}, {"position": {"total": step}}, best=best)


def test_last_and_best_are_kept_and_nothing_else(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, "last") is None
    for step, best in ((1, True), (2, False), (3, True), (4, False), (5, False)):
        write(tmp_path, step, best=best)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000003", "step-00000005"]
    for which, step in (("last", 5), ("best", 3)):
        found = checkpoint.load(tmp_path, which)
        assert found is not None
        assert found[0]["w"].tolist() == [step] * 3
        assert found[1] == {"position": {"total": step}}


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
def test_a_torn_checkpoint_is_said_by_name(tmp_path: Path, name: str) -> None:
    write(tmp_path, 7)
    file = tmp_path / "step-00000007" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(MesmError, match="step-00000007 is not a whole checkpoint"):
        checkpoint.load(tmp_path, "last")


class Malice:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    write(tmp_path, 7)
    mark = tmp_path / "pwned"
    for forged in (pickle.dumps(Malice(str(mark))), None):
        file = tmp_path / "step-00000007" / "state.pt"
        if forged is None:
            torch.save({"position": Malice(str(mark))}, file)
        else:
            file.write_bytes(forged)
        with pytest.raises(MesmError):
            checkpoint.load(tmp_path, "last")
    assert not mark.exists()


def test_the_learning_rate_warms_up_and_falls() -> None:
    cosine = OptimConfig(lr=1.0, warmup_steps=4, schedule="cosine")
    rates = [learning_rate(cosine, step, 24) for step in range(25)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[14] == pytest.approx(0.5)
    assert rates[24] == pytest.approx(0.0)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert learning_rate(OptimConfig(lr=1.0), 10_000, 20) == 1.0


def test_bf16_is_the_precision_of_the_forward_pass_only() -> None:
    layer = torch.nn.Linear(4, 4)
    with autocast(torch.device("cpu"), "bf16"):
        assert layer(torch.ones(1, 4)).dtype == torch.bfloat16
    with autocast(torch.device("cpu"), "fp32"):
        assert layer(torch.ones(1, 4)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32

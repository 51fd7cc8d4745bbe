"""The parts of a run on their own: batches, augmentation, the journal, checkpoints, the learning rate."""

import gzip
import json
import os
import pickle
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.shard_store import LocalShards
from mesm_data.errors import MesmError
from mesm_train.config.settings import AugmentConfig, LoaderConfig, OptimConfig
from mesm_train.data.buffers import MIN_POOLED_BYTES, BufferPool
from mesm_train.data.loader import Loader
from mesm_train.data.mel import MelPieces
from mesm_train.data.plan import sorted_batches
from mesm_train.training import checkpoint
from mesm_train.training.metrics_log import MetricsLog
from mesm_train.training.optimizer import autocast, averaged_model, learning_rate
from mesm_train.training.progress import LineLogger, NullLogger, ProfileLogger, TensorBoardLogger, WandbLogger


@pytest.fixture(scope="module")
def loaded(dataset: Path) -> tuple[Dataset, dict[str, np.ndarray]]:  # type: ignore[type-arg]
    source = Dataset(dataset)
    return source, {key: np.array([index % 2, 1], np.float32) for index, key in enumerate(source.keys)}


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 1), (4, 1), (3, 8)])
def test_batches_are_complete_and_in_order_for_any_number_of_threads(
    loaded: tuple[Dataset, dict[str, np.ndarray]],
    threads: int,
    prefetch: int,  # type: ignore[type-arg]
) -> None:
    source, targets = loaded
    loader = Loader(source, targets, None, 10, LoaderConfig(threads=threads, prefetch=prefetch))
    plan = sorted_batches(source.keys[::-1], source.shard, batch=3)
    seen = list(loader.batches(plan))
    assert [batch.keys for batch in seen] == plan
    for batch in seen:
        for index, alone in enumerate(batch.split()):
            sample = source[batch.keys[index]]
            assert np.array_equal(alone.faces.numpy(), sample.faces)
            assert np.array_equal(alone.samples.numpy(), sample.samples)
            assert np.array_equal(alone.labels[0].numpy(), targets[sample.key])


def test_a_rank_without_samples_has_an_empty_batch(loaded: tuple[Dataset, dict[str, np.ndarray]]) -> None:  # type: ignore[type-arg]
    source, targets = loaded
    [empty] = Loader(source, targets, None, 10, LoaderConfig()).batches([()])
    assert empty.keys == ()
    assert empty.faces.shape == (0, 48, 48, 3)
    assert empty.labels.shape == (0, 2)


def test_shards_are_prefetched_in_the_order_of_use(loaded: tuple[Dataset, dict[str, np.ndarray]]) -> None:  # type: ignore[type-arg]
    source, targets = loaded
    prefetched: list[str] = []

    class RecordingStore(LocalShards):
        def prefetch(self, names: Sequence[str]) -> None:
            prefetched.extend(names)

    dataset = Dataset(source.path, store=RecordingStore(source.path / "shards"))
    order = source.keys[::-1]
    list(Loader(dataset, targets, None, 10, LoaderConfig()).batches([order[:9], order[9:]]))
    assert prefetched == list(dict.fromkeys(source.rows[key]["shard"] for key in order))


def test_an_augmented_sample_is_the_same_in_any_batch_and_another_in_each_epoch(
    loaded: tuple[Dataset, dict[str, np.ndarray]],  # type: ignore[type-arg]
) -> None:
    source, targets = loaded
    changes = AugmentConfig(
        face_flip=0.5, face_shift=3, face_light=0.2, word_dropout=0.3, mask_seconds=0.5, mask_mels=20
    )
    loader = Loader(source, targets, None, 10, LoaderConfig(), augmentation=changes, seed=1)
    keys = [key for key in source.keys if source.rows[key]["n_faces"] and source.rows[key]["n_samples"]][:6]
    together = loader.batch(keys, epoch=0).split()
    for key, one in zip(keys, together, strict=True):
        alone = loader.batch([key], epoch=0)
        assert torch.equal(one.faces, alone.faces)
        assert one.masks is not None
        assert alone.masks is not None
        assert torch.equal(one.masks, alone.masks)
        assert alone.faces.shape == loader.batch([key]).faces.shape
    assert any(not torch.equal(loader.batch([key], epoch=1).faces, loader.batch([key], epoch=0).faces) for key in keys)
    assert loader.batch(keys).masks is None  # evaluation sees what is in the shards
    assert torch.equal(loader.batch(keys).faces, Loader(source, targets, None, 10, LoaderConfig()).batch(keys).faces)


def test_masks_silence_their_columns_and_filters_of_one_utterance() -> None:
    samples = torch.randint(-9000, 9000, (20_000,), dtype=torch.int16)
    counts = torch.tensor([12_000, 8_000])
    plain, pieces = MelPieces()(samples, counts)
    masked, _ = MelPieces()(samples, counts, torch.tensor([[10, 40, 3, 9], [0, 0, 0, 0]]))
    one, other = (m[: int(pieces[0]), 0].permute(1, 0, 2).reshape(128, -1) for m in (plain, masked))
    assert not other[:, 10:40].any()
    assert not other[3:9].any()
    kept = torch.ones_like(one, dtype=torch.bool)
    kept[:, 10:40] = False
    kept[3:9] = False
    assert torch.equal(one[kept], other[kept])
    assert torch.equal(plain[int(pieces[0]) :], masked[int(pieces[0]) :])


def test_an_abandoned_stream_leaves_no_thread_behind(loaded: tuple[Dataset, dict[str, np.ndarray]]) -> None:  # type: ignore[type-arg]
    import threading

    source, targets = loaded
    before = threading.active_count()
    steps = sorted_batches(source.keys, source.shard, batch=2)
    stream = Loader(source, targets, None, 10, LoaderConfig()).batches(steps)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_a_metrics_log_survives_an_incomplete_line_and_rewinds(tmp_path: Path) -> None:
    journal = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(5):
        journal.append({"kind": "train", "epoch": 0, "step": step})
    with journal.path.open("a") as file:
        file.write('{"step": 5, "lo')
    assert [record["step"] for record in journal.read()] == [0, 1, 2, 3, 4]
    journal.rewind(lambda record: record["step"] < 3)
    assert [json.loads(line)["step"] for line in journal.path.read_text().splitlines()] == [0, 1, 2]
    journal.append({"kind": "train", "epoch": 0, "step": 3})
    assert [record["step"] for record in journal.read()] == [0, 1, 2, 3]


def write(folder: Path, step: int, *, score: float | None = None, keep: int = 1) -> None:
    weights = {"w": torch.full((3,), float(step))}
    checkpoint.save(folder, step, weights, {"position": {"total": step}}, score=score, keep=keep)


def test_only_the_last_and_the_best_checkpoints_are_kept(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, "last") is None
    for step, score in ((1, 0.1), (2, None), (3, 0.3), (4, 0.2), (5, None)):
        write(tmp_path, step, score=score)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000003", "step-00000005"]
    for which, step in (("last", 5), ("best", 3)):
        restored = checkpoint.load(tmp_path, which)
        assert restored is not None
        assert restored[0]["w"].tolist() == [step] * 3
        assert restored[1] == {"position": {"total": step}}


def test_the_requested_number_of_best_checkpoints_is_kept(tmp_path: Path) -> None:
    for step, score in ((1, 0.1), (2, 0.4), (3, None), (4, 0.3), (5, 0.2), (6, None)):
        write(tmp_path, step, score=score, keep=2)
    assert [one["step"] for one in checkpoint.best_checkpoints(tmp_path)] == [2, 4]
    assert sorted(path.name[-1] for path in tmp_path.glob("step-*")) == ["2", "4", "6"]


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, 7)
    file = tmp_path / "step-00000007" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(MesmError, match="step-00000007 is not a complete checkpoint"):
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


def test_a_buffer_is_reused_only_when_nothing_in_it_is_alive() -> None:
    memory = BufferPool()
    parts = [np.full((20_000, 2), value, np.int16) for value in (1, 2)]
    kept = torch.from_numpy(memory.concatenate(parts))
    view = kept[3:5]
    address = kept.data_ptr()
    del kept
    other = memory.concatenate([part + 7 for part in parts])
    assert other.ctypes.data != address
    assert view.tolist() == [[1, 1], [1, 1]]
    del view
    assert memory.concatenate(parts).ctypes.data == address
    assert np.array_equal(other, np.concatenate(parts) + 7)


@pytest.mark.parametrize(
    "derive",
    [
        lambda array: array[5:6],
        lambda array: array.reshape(-1)[::7],
        lambda array: array.view(np.uint8),
        lambda array: memoryview(array),
        lambda array: torch.from_numpy(array),
        lambda array: torch.from_numpy(array)[3:].view(torch.uint8).untyped_storage(),
        lambda array: torch.split(torch.from_numpy(array), 10_000),
        lambda array: torch.from_numpy(array.astype(np.int16, copy=False)).numpy().T,
    ],
)
def test_a_buffer_is_not_reused_while_anything_in_it_is_alive(derive: Any) -> None:
    """Whatever is made of an array, and though nothing but that is left of it."""
    memory = BufferPool()
    parts = [np.full((20_000, 2), 1, np.int16)]
    first = memory.concatenate(parts)
    address, derived = first.ctypes.data, derive(first)
    del first
    assert memory.concatenate(parts).ctypes.data != address
    del derived
    assert address in {array.ctypes.data for array in (memory.concatenate(parts), memory.concatenate(parts))}


def test_threads_never_share_a_buffer_in_use() -> None:
    """Each thread keeps some arrays for a while; all of them hold what was put there. Few buffers come to be."""
    memory, addresses = BufferPool(), set[int]()

    def work(seed: int) -> bool:
        moments, alive, whole = random.Random(seed), list[tuple[int, torch.Tensor]](), True
        for number in range(300):
            value = seed * 300 + number
            array = memory.concatenate(
                [np.full(moments.randrange(MIN_POOLED_BYTES, 2 * MIN_POOLED_BYTES), value, np.int32)]
            )
            addresses.add(array.ctypes.data)
            alive.append((value, torch.from_numpy(array)[::1000]))
            if len(alive) > 4:
                value, tensor = alive.pop(moments.randrange(5))
                whole = whole and bool((tensor == value).all())
        return whole and all((tensor == value).all() for value, tensor in alive)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert len(addresses) < 200  # of 1200 arrays


def test_tensorboard_curves_equal_the_metrics_log_also_after_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first in (1, 2):  # stopped after step 3, gone on with from step 2
        curves = TensorBoardLogger(tmp_path, NullLogger())
        for step in range(first, 4):
            curves.step({"kind": "train", "step": step, "loss": 0.5 * step + first}, step, 9)
        curves.epoch({"kind": "valid", "step": 3, "metrics": {"mean": {"f1": 0.25, "auc": None}}})
        curves.say("saved")
    restored = EventAccumulator(str(tmp_path)).Reload()
    assert set(restored.Tags()["scalars"]) == {"train/loss", "valid/metrics/mean/f1"}
    assert [(event.step, event.value) for event in restored.Scalars("train/loss")] == [(1, 1.5), (2, 3.0), (3, 3.5)]


def record(step: int) -> dict[str, Any]:
    return {
        "kind": "train", "epoch": 0, "step": step, "loss": 1 / step, "lr": 1e-3, "grad_norm": None,
        "samples_per_s": 2.5, "data_wait": 0.0, "seconds": 0.1, "mfu": None, "memory_gb": 0.5,
    }  # fmt: skip


def test_weights_and_biases_gets_the_numbers_of_the_metrics_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package itself, offline; a resumed run keeps its id."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    ids = []
    for first in (1, 3):
        curves = WandbLogger(tmp_path / "run" / "wandb", NullLogger())
        for step in (first, first + 1):
            curves.step(record(step), step, 9)
        assert wandb.run.name == "run"
        assert wandb.run.summary["train/loss"] == 1 / first  # a step is written when the next one begins
        ids.append(wandb.run.id)
        wandb.finish()
    assert ids[0] == ids[1]
    assert list((tmp_path / "run" / "wandb").glob("**/*.wandb"))


def test_a_profile_traces_the_requested_updates(tmp_path: Path) -> None:
    logger = ProfileLogger(tmp_path / "profile.json.gz", 2, 4, NullLogger())
    for step in range(1, 7):
        logger.step(record(step), step, 9)
        with torch.profiler.record_function(f"after update {step}"):
            torch.ones(3).sum()
    names = {
        event.get("name")
        for event in json.loads(gzip.decompress((tmp_path / "profile.json.gz").read_bytes()))["traceEvents"]
    }
    assert {name for name in names if str(name).startswith("after update")} == {"after update 2", "after update 3"}


def test_a_profile_of_a_shorter_run_has_what_there_was_or_says_that_there_was_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for last, name in ((2, "none"), (4, "some")):
        logger = ProfileLogger(tmp_path / name, 3, 9, LineLogger())
        for step in range(1, last + 1):
            logger.step(record(step), step, 9)
        logger.close()
    assert not (tmp_path / "none").exists()
    assert json.loads((tmp_path / "some").read_text())["traceEvents"]
    first, second = capsys.readouterr().err.splitlines()
    assert first == "no profile: this was 2 updates, and --profile begins after number 3"
    assert second == f"profile: {tmp_path / 'some'}"


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


def test_the_exponential_moving_average_equals_its_definition() -> None:
    model = torch.nn.BatchNorm1d(2)
    mean, expected = averaged_model(model, 0.75), None
    assert mean is not None
    for updates, value in enumerate((1.0, 5.0, -3.0, 2.0)):
        model.weight.data.fill_(value)
        model.running_mean.fill_(value)  # type: ignore[union-attr]
        mean.update_parameters(model)
        decay = min(0.75, (1 + updates) / (10 + updates))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert mean.module.weight.tolist() == pytest.approx([expected, expected])
        assert mean.module.running_mean.tolist() == [value, value]  # statistics are the model's own
    assert averaged_model(model, 0.0) is None

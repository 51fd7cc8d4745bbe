"""Guarantees of loader.source=webdataset: what it gives, what it refuses, and that it says what it cannot promise."""

import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from object_store import BUCKET, ObjectStore, in_many_shards
from rank_workers import journal, ranks, small_recipe, trained
from small_runs import RecordedLines

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.remote_shards import open_dataset
from mesm_data.errors import MesmError
from mesm_data.storage import remote_bytes
from mesm_data.storage.remote_bytes import open_store
from mesm_train.config.settings import LoaderConfig
from mesm_train.data.loader import Loader
from mesm_train.data.stream import STREAM_NOTE, ShardStream
from mesm_train.runs.run import start_run

LIMIT = 300_000  # bytes of a shard


@pytest.fixture(scope="module")
def local(once: Callable[[str, Callable[[Path], None]], Path], dataset: Path) -> Path:
    return once("many-shards", lambda path: in_many_shards(dataset, path, LIMIT))


@pytest.fixture
def copy(local: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(local, tmp_path / "copy"))


def keys_of(stream: ShardStream, epoch: int = 0, steps: int = 5) -> list[str]:
    count = len(stream.dataset) // stream._world
    return [sample.key for sample in islice(stream.samples(epoch, steps), count)]


def test_one_rank_gets_every_sample_once_in_an_order_that_the_seed_and_the_epoch_decide(local: Path) -> None:
    source = Dataset(local, check=True)
    stream = ShardStream(source, source.keys, seed=1)
    first = keys_of(stream)
    assert sorted(first) == sorted(source.keys)
    assert keys_of(stream) == first
    other_seed = ShardStream(source, source.keys, seed=2)
    for other in (keys_of(stream, epoch=1), keys_of(stream, steps=4), keys_of(other_seed)):
        assert sorted(other) == sorted(first)
        assert other != first


def test_a_streamed_sample_equals_the_one_read_by_key(local: Path) -> None:
    source = Dataset(local)
    for sample in islice(ShardStream(source, source.keys, seed=0).samples(0, 1), len(source)):
        expected = source[sample.key]
        assert np.array_equal(sample.faces, expected.faces)
        assert np.array_equal(sample.samples, expected.samples)
        assert (sample.text, sample.record) == (expected.text, expected.record)


def test_a_stream_reads_only_the_shards_and_yields_only_the_keys_of_its_part(local: Path) -> None:
    source = Dataset(local)
    some = source.keys[:5]
    stream = ShardStream(source, some, seed=0)
    assert {sample.key for sample in islice(stream.samples(0, 1), 5)} == set(some)
    assert set(stream.shards) == set(map(source.shard, some))


def test_each_rank_reads_its_own_shards_in_an_endless_stream(local: Path) -> None:
    source = Dataset(local)
    streams = [ShardStream(source, source.keys, seed=0, rank=rank, world=2) for rank in (0, 1)]
    read = [{source.shard(key) for key in keys_of(stream)[: len(source) // 4]} for stream in streams]
    assert not read[0] & read[1]
    assert len(list(islice(streams[0].samples(0, 1), 3 * len(source)))) == 3 * len(source)


def test_a_batch_has_the_size_of_its_step_and_evaluation_its_keys(local: Path) -> None:
    source = Dataset(local)
    targets = {key: np.array([index], np.float32) for index, key in enumerate(source.keys)}
    settings = LoaderConfig(source="webdataset")
    loader = Loader(source, targets, None, 10, settings, stream=ShardStream(source, source.keys, seed=0))
    steps = [tuple(source.keys[:3]), (), tuple(source.keys[3:])]
    training = list(loader.batches(steps, epoch=0))
    assert [len(batch.keys) for batch in training] == [3, 0, len(source) - 3]
    assert sorted(key for batch in training for key in batch.keys) == sorted(source.keys)
    assert all(batch.labels[:, 0].tolist() == [targets[key][0] for key in batch.keys] for batch in training)
    assert [batch.keys for batch in loader.batches(steps)] == steps


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def drop_the_first_sample(path: Path) -> None:
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    path.write_bytes(b"".join(member.tobuf() + data + bytes(-len(data) % 512) for member, data in members[4:]))


def compress(path: Path) -> None:
    import gzip

    path.write_bytes(gzip.compress(path.read_bytes()))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (flip_a_byte, "sample {key} is damaged .*faces.npy"),
        (truncate, "cannot be read .*unexpected end of data"),
        (drop_the_first_sample, "lacks 1 samples of the manifest, the first is {key}"),
        (compress, "cannot be read .it is compressed"),
        (Path.unlink, "cannot be read"),
    ],
)
def test_a_damaged_shard_stops_training_and_is_named(copy: Path, damage: Callable[[Path], None], sentence: str) -> None:
    source = Dataset(copy, check=True)
    key = min(source.keys, key=lambda key: (source.shard(key), source.rows[key]["faces_offset"]))
    damage(copy / "shards" / source.shard(key))
    targets = {key: np.zeros(1, np.float32) for key in source.keys}
    loader = Loader(source, targets, None, 10, LoaderConfig(), stream=ShardStream(source, source.keys, seed=0))
    with pytest.raises(MesmError, match=f"{source.shard(key)}.*{sentence.format(key=key)}"):
        list(loader.batches([tuple(source.keys)], epoch=0))


@pytest.fixture
def store(local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    served = ObjectStore()
    served.put(local, "small")
    for name, value in {**served.environment, "MESM_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote_bytes, "FIRST_PAUSE", 0.01)
    yield served
    served.close()


def test_a_changed_environment_is_followed_within_one_process(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_store(f"s3://{BUCKET}/small")[0].exists(f"{BUCKET}/small/dataset.json")
    other = ObjectStore()
    monkeypatch.setenv("AWS_ENDPOINT_URL", other.endpoint)
    try:
        with pytest.raises(MesmError, match="absent"):
            open_dataset(f"s3://{BUCKET}/absent", check=True)
        assert other.sent["dataset.json"]
        assert not store.sent["dataset.json"]
    finally:
        other.close()


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_an_object_store_is_streamed_through_faults_and_nothing_is_kept(
    store: ObjectStore, local: Path, tmp_path: Path, scheme: str
) -> None:
    url = f"s3://{BUCKET}/small" if scheme == "s3" else f"{store.endpoint}/{BUCKET}/small"
    source = open_dataset(url, check=True)
    names = sorted(source.info["shards"])
    store.faults = {names[0]: [500, 503], names[1]: ["cut"], names[2]: ["cut", "cut"]}
    expected = keys_of(ShardStream(Dataset(local), source.keys, seed=3))
    assert keys_of(ShardStream(source, source.keys, seed=3)) == expected
    assert not any(store.faults.values()), "all faults were met"
    assert not list((tmp_path / "cache").glob("*/shards/*"))
    (tmp_path / "damaged" / "shards").mkdir(parents=True)
    shutil.copy(local / "shards" / names[0], tmp_path / "damaged" / "shards")
    flip_a_byte(tmp_path / "damaged" / "shards" / names[0])
    store.put(tmp_path / "damaged", "small")
    with pytest.raises(MesmError, match=f"{scheme}://.*/{names[0]}: sample .* is damaged .*faces.npy"):
        keys_of(ShardStream(open_dataset(url, check=True), source.keys, seed=3))
    store.faults = {names[0]: [404]}
    with pytest.raises(MesmError, match=f"{names[0]} does not exist"):
        keys_of(ShardStream(source, source.keys, seed=3))


def test_a_run_reports_the_limits_of_a_stream_and_is_reproducible(local: Path, tmp_path: Path) -> None:
    from mesm_train.config.recipe_files import load_recipe

    recipe = small_recipe(tmp_path, local)
    losses = []
    for name in ("one", "two"):
        spoken = RecordedLines()
        config = load_recipe(recipe, ["loader.source=webdataset", "optim.epochs=1"])
        assert start_run(config, tmp_path / name, resume=False, stop=lambda: False, logger=spoken)
        assert spoken.lines[0] == f"note: {STREAM_NOTE}"
        losses.append(journal(tmp_path / name))
    assert losses[0] == losses[1]
    config = json.loads((tmp_path / "one" / "provenance.json").read_text())["config"]
    assert config["loader"]["source"] == "webdataset"


def test_two_ranks_train_on_streams_of_their_own(local: Path, tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, local)
    sets = ["loader.source=webdataset", "optim.epochs=1"]
    ranks(2, trained, recipe, sets, tmp_path / "run", None, folder=tmp_path / "f")
    ranks(2, trained, recipe, ["optim.epochs=1"], tmp_path / "index", None, folder=tmp_path / "g")
    streamed, indexed = journal(tmp_path / "run"), journal(tmp_path / "index")
    assert [line["samples"] for line in streamed if line["kind"] == "train"] == [
        line["samples"] for line in indexed if line["kind"] == "train"
    ]
    assert streamed[-1]["kind"] == "test"


def test_more_ranks_than_shards_are_refused(dataset: Path, tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, dataset)
    results = ranks(3, trained, recipe, ["loader.source=webdataset"], tmp_path / "run", None, folder=tmp_path / "f")
    assert all("start fewer ranks, or take loader.source=index" in message for _, message, _ in results)

"""Guarantees of remote data, with a real S3 server: identical runs, each shard fetched once, only complete files."""

import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from object_store import BUCKET, ObjectStore, in_many_shards
from rank_workers import journal, ranks, server, small_recipe, trained

from mesm_data.dataset.manifest import manifest_schema, read_table_rows, write_table
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.remote_shards import open_dataset
from mesm_data.errors import InputError, MesmError
from mesm_data.storage import remote_bytes
from mesm_data.storage.cache import GB, Cache
from mesm_data.storage.files import sha256_file
from mesm_data.storage.json_files import read_json
from mesm_train.config.recipe_files import load_recipe
from mesm_train.training.selection import select_data

LIMIT = 300_000  # bytes of a shard
URL = f"s3://{BUCKET}/small"


@pytest.fixture(scope="module")
def local(once: Callable[[str, Callable[[Path], None]], Path], dataset: Path) -> Path:
    return once("many-shards", lambda path: in_many_shards(dataset, path, LIMIT))


@pytest.fixture(scope="module")
def served(local: Path) -> Iterator[ObjectStore]:
    server = ObjectStore()
    server.put(local, "small")
    yield server
    server.close()


@pytest.fixture
def store(served: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The server without faults; this process has its keys, an empty cache and little patience."""
    for name, value in {**served.environment, "MESM_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote_bytes, "FIRST_PAUSE", 0.01)
    return served.fresh()


def http(store: ObjectStore) -> str:
    return f"{store.endpoint}/{BUCKET}/small"


def weights(run: Path) -> str:
    step = read_json(run / "checkpoints" / "last.json")["step"]
    return sha256_file(run / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


def sizes(local: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (local / "shards").iterdir()}


def cached(cache: Path) -> dict[str, int]:
    """Bytes by file, half-written ones included."""
    return {path.name: path.stat().st_size for path in cache.glob("*/shards/*")}


def trained_elsewhere(connection: Any, environment: dict[str, str], *arguments: Any) -> Any:
    os.environ |= environment
    return trained(connection, *arguments)


def judged_elsewhere(_: Any, environment: dict[str, str], run: Path, url: str) -> Any:
    """Whether the scores are those that the run wrote down, and what differs."""
    from mesm_train.runs.evaluate import evaluate

    os.environ |= environment
    evaluation = evaluate(run, part="test", data=url)
    return evaluation.scores == evaluation.before, evaluation.differences


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, local: Path) -> str:
    return small_recipe(tmp_path_factory.mktemp("elsewhere"), local)


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory, recipe: str) -> Path:
    """The run on the local files, by two ranks."""
    folder = tmp_path_factory.mktemp("near")
    ranks(2, trained, recipe, ["loader.window=1"], folder / "run", None, folder=folder / "f")
    return folder / "run"


def test_two_ranks_train_from_s3_as_from_disk_and_fetch_each_shard_once(
    store: ObjectStore, recipe: str, near: Path, local: Path, tmp_path: Path
) -> None:
    """Losses, scores and weights are identical although the server fails, closes connections and sends wrong bytes."""
    names = sorted(sizes(local))
    store.faults = {names[1]: [500, 503], names[2]: ["cut"], names[3]: ["bad"]}
    environment = {**store.environment, "MESM_CACHE": str(tmp_path / "cache")}
    sets = ["loader.window=1", f"data={URL}"]
    ranks(2, trained_elsewhere, environment, recipe, sets, tmp_path / "run", None, folder=tmp_path / "f")
    assert not any(store.faults.values()), "all faults were met"
    assert journal(tmp_path / "run") == journal(near)
    assert weights(tmp_path / "run") == weights(near)
    requested = {name: size for name, size in sizes(local).items() if store.sent[name]}
    assert len(requested) > 10
    again = {names[2], names[3]}
    assert all(store.sent[name] == size for name, size in requested.items() if name not in again)
    assert cached(tmp_path / "cache") == requested

    store.fresh()
    results = ranks(1, judged_elsewhere, environment, tmp_path / "run", http(store), folder=tmp_path / "e")
    assert results == [(True, [])]
    assert not {name for name in store.sent if name.endswith(".tar")}, "another URL of the same data shares the cache"


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_a_two_phase_system_without_its_features_at_the_url_is_refused_before_a_shard_is_read(
    store: ObjectStore, scheme: str
) -> None:
    """test_remote_features.py has those with them."""
    url = URL if scheme == "s3" else http(store)
    with pytest.raises(InputError, match=r"features/glove/.* Compute the features 'glove' where the dataset lies"):
        select_data(load_recipe("iemocap-lf-lstm", [f"data={url}"]))
    assert not {name for name in store.sent if name.endswith(".tar")}


def test_a_cache_smaller_than_the_dataset_completes_a_run_and_keeps_its_bound(
    store: ObjectStore, recipe: str, near: Path, local: Path, tmp_path: Path
) -> None:
    """The shards are so small that a batch takes three of them; two ranks may need six at a time."""
    bound = sum(sorted(sizes(local).values())[-8:])
    assert bound < sum(sizes(local).values()) * 0.6
    most: list[int] = []
    store.on_get = lambda _: most.append(sum(cached(tmp_path / "cache").values()))
    environment = {**store.environment, "MESM_CACHE": str(tmp_path / "cache")}
    sets = ["loader.window=1", "loader.threads=1", f"data={http(store)}", f"loader.cache_gb={bound / GB}"]
    ranks(2, trained_elsewhere, environment, recipe, sets, tmp_path / "run", None, folder=tmp_path / "f")
    assert journal(tmp_path / "run") == journal(near)
    assert weights(tmp_path / "run") == weights(near)
    assert max(most) <= bound
    assert sum(store.sent[name] for name in sizes(local)) > sum(sizes(local).values())


def test_a_reader_waits_only_for_its_own_shard_and_the_others_are_prefetched(store: ObjectStore, local: Path) -> None:
    store.faults = {name: ["stall"] for name in sorted(sizes(local))[1:]}
    remote_dataset, near = open_dataset(http(store), check=True), Dataset(local)
    keys = sorted(near.keys, key=near.shard)
    remote_dataset.prefetch(keys)
    assert bytes(remote_dataset[keys[0]].json) == bytes(near[keys[0]].json)
    assert store.stalled.wait(20), "nobody fetches ahead"
    store.gate.set()
    for key in keys[1:]:
        assert (remote_dataset[key].samples == near[key].samples).all()
    assert all(store.sent[name] == size for name, size in sizes(local).items())


def test_a_pickled_dataset_reads_the_same_copies_in_another_process(store: ObjectStore, local: Path) -> None:
    here, there = Dataset(local), open_dataset(http(store), check=True)
    key = here.keys[0]
    first = there[key]
    copy = pickle.loads(pickle.dumps(there.select([key, here.keys[-1]])))
    assert copy.keys == [key, here.keys[-1]]
    assert [sample.record for sample in copy] == [here[key].record for key in copy.keys]
    assert bytes(copy[key].json) == bytes(first.json)
    assert store.sent[here.shard(key)] == sizes(local)[here.shard(key)]


def test_no_incomplete_file_is_used_after_a_kill(store: ObjectStore, local: Path, tmp_path: Path) -> None:
    """Killed in the middle of a shard: it is not there, and the next process has it whole."""
    key = Dataset(local).keys[0]
    name = Dataset(local).shard(key)
    store.faults = {name: ["stall"]}
    environment = {**store.environment, "MESM_CACHE": str(tmp_path / "cache")}
    process = server.Process(target=read_one, args=(environment, http(store), key))
    process.start()
    assert store.stalled.wait(60)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert name not in cached(tmp_path / "cache")
    store.gate.set()
    assert bytes(open_dataset(http(store))[key].json) == bytes(Dataset(local)[key].json)
    assert cached(tmp_path / "cache") == {name: sizes(local)[name]}


def read_one(environment: dict[str, str], url: str, key: str) -> None:
    os.environ |= environment
    open_dataset(url)[key]


def test_the_rest_is_requested_again_when_a_server_stops_sending(
    store: ObjectStore, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_bytes, "STALL_TIMEOUT", 0.5)
    key = Dataset(local).keys[0]
    store.faults = {Dataset(local).shard(key): ["stall", 503]}
    assert bytes(open_dataset(http(store))[key].json) == bytes(Dataset(local)[key].json)
    assert not store.gate.is_set()


def test_a_damaged_remote_shard_is_named_and_not_cached(store: ObjectStore, local: Path, tmp_path: Path) -> None:
    key = Dataset(local).keys[0]
    name = Dataset(local).shard(key)
    store.faults = {name: ["bad"] * 9}
    with pytest.raises(MesmError, match=name):
        open_dataset(http(store))[key]
    assert name not in cached(tmp_path / "cache")


def test_a_damaged_cached_shard_is_named_with_the_remedy(store: ObjectStore, local: Path) -> None:
    remote_dataset = open_dataset(http(store), check=True)
    key = remote_dataset.keys[0]
    remote_dataset[key]
    path = remote_dataset.store.path(remote_dataset.shard(key))
    data = bytearray(path.read_bytes())
    data[int(remote_dataset.rows[key]["txt_offset"])] ^= 1
    path.write_bytes(data)
    with pytest.raises(MesmError, match=r"sample .* is damaged .* delete it, and it is fetched again"):
        open_dataset(http(store), check=True)[key]
    path.unlink()
    assert open_dataset(http(store), check=True)[key].text == Dataset(local)[key].text


@pytest.mark.parametrize("check", [True, False])
def test_modified_labels_in_the_cache_are_refused(store: ObjectStore, local: Path, check: bool) -> None:
    path = open_dataset(http(store), check=check).path / "manifest.parquet"
    rows = read_table_rows(path)
    one, other = (next(row for row in rows if row["labels"]["emotion"] == label) for label in ("ang", "hap"))
    one["labels"], other["labels"] = other["labels"], one["labels"]
    write_table(path, rows, manifest_schema(Dataset(local).schema))
    with pytest.raises(InputError, match=rf"{path} is not the table .* delete it, and it is fetched again"):
        open_dataset(http(store), check=check)
    path.unlink()
    assert open_dataset(http(store), check=check).rows[one["key"]] == Dataset(local).rows[one["key"]]


@pytest.mark.parametrize(
    ("file", "fault"), [("dataset.json", "bad"), ("manifest.parquet", "bad"), ("dataset.json", 403)]
)
def test_dataset_json_and_manifest_are_checked_too(store: ObjectStore, file: str, fault: int | str) -> None:
    store.faults = {file: [fault] * 9}
    with pytest.raises(MesmError, match=file):
        open_dataset(URL)


def test_unreadable_remote_data_are_one_message(
    store: ObjectStore, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"dataset\.json does not exist"):
        open_dataset(f"s3://{BUCKET}/elsewhere")
    with pytest.raises(InputError, match="s3:/corpora"):
        open_dataset("s3:/corpora/small")
    with pytest.raises(InputError, match="nosuch://x/y"):
        open_dataset("nosuch://x/y")
    with pytest.raises(InputError, match="no room for two windows of 2 shards"):
        open_dataset(URL, cache_gb=3 * LIMIT / GB, window=2)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(
        sys.modules["fsspec.registry"]._registry, "s3", raising=False
    )  # where it keeps what it imported
    with pytest.raises(InputError, match=r"pip install 'mesm\[s3\]'"):
        open_dataset("s3://another/small")


def test_the_cache_deletes_the_least_recently_used_shards_and_nothing_else(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 50)
    root, foreign, linked = "a" * 64, "b" * 64, "c" * 64
    for folder, parts in (
        (cache.dataset_folder(root), ("shards", "locks")),
        (cache.dataset_folder(foreign), ("shards",)),
    ):
        for part in parts:
            (folder / part).mkdir(parents=True)
    (tmp_path / "only").mkdir()
    cache.dataset_folder(linked).mkdir()
    (cache.dataset_folder(linked) / "locks").mkdir()
    (cache.dataset_folder(linked) / "shards").symlink_to(tmp_path / "only")
    shards = cache.dataset_folder(root) / "shards"
    mine = [shards / f"{number}.tar" for number in range(5)]
    others = [cache.dataset_folder(foreign) / "shards" / "x.tar", tmp_path / "only" / "x.tar"]
    (tmp_path / "target.tar").write_bytes(bytes(10))
    (shards / "9.tar").symlink_to(tmp_path / "target.tar")
    for number, path in enumerate([*mine, *others]):
        path.write_bytes(bytes(10))
        os.utime(path, ns=(number, number))
    pinned = cache.pin(mine[1], 10)
    assert pinned is not None
    os.utime(mine[1], ns=(1, 1))

    def room(size: int, *, force: bool) -> bool:
        with cache.write_lock(root, "new.tar", wait=True) as writer:
            assert writer is not None
            return cache.reserve(writer, size, force=force)

    assert not room(41, force=False)
    assert all(path.exists() for path in mine), "nothing is deleted in vain"
    assert room(20, force=False)
    assert [path.exists() for path in mine] == [False, True, False, True, True], "the oldest but for the one in use"
    assert room(60, force=True)
    assert [path.exists() for path in mine] == [False, True, False, False, False]
    assert all(path.exists() for path in (*others, shards / "9.tar"))
    os.close(pinned)


def test_there_is_one_writer_per_shard_and_its_bytes_are_reserved(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 100)
    (cache.dataset_folder("a" * 64) / "shards").mkdir(parents=True)
    with cache.write_lock("a" * 64, "1.tar", wait=True) as first:
        assert first is not None
        assert cache.reserve(first, 60, force=False)
        with cache.write_lock("a" * 64, "1.tar", wait=False) as again:
            assert again is None
        with cache.write_lock("a" * 64, "2.tar", wait=False) as second:
            assert second is not None
            assert not cache.reserve(second, 60, force=False)
    partial = cache.dataset_folder("a" * 64) / "shards" / ".1.tar.x.part"
    partial.write_bytes(bytes(30))
    (cache.dataset_folder("a" * 64) / "locks" / "1.tar").write_bytes(b"60")  # as a killed process leaves it
    with cache.write_lock("a" * 64, "2.tar", wait=False) as second:
        assert second is not None
        assert cache.reserve(second, 60, force=False)
    assert not partial.exists()

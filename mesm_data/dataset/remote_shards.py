"""Datasets that lie elsewhere: whole shards come into the cache in the order of use, ahead of it."""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from io import BufferedReader
from pathlib import Path
from threading import Condition, Thread, current_thread
from typing import Any

from mesm_data.dataset.description import MAX_INFO_BYTES, check_manifest_digest, parse_dataset_info
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.shard_store import ShardStore
from mesm_data.errors import InputError, MesmError
from mesm_data.storage import remote
from mesm_data.storage.cache import GB, Cache, cache_folder
from mesm_data.storage.files import atomic_write
from mesm_data.storage.remote_bytes import local_path
from mesm_data.storage.remote_errors import RemoteFileNotFound, redact_url

PREFETCH_THREADS = 4  # that fetch ahead, of each process
RETRY_SECONDS = 1.0  # seconds after which is looked again whether another process has fetched a shard or made room
MAX_MANIFEST_BYTES = 2**28  # bytes at most


def open_dataset(place: str | Path, *, check: bool = False, cache_gb: float = 50, window: int = 16) -> Dataset:
    """Open a dataset in a folder or at a URL.

    Args:
        place: A folder that `mesm-data build` wrote, or its URL: s3://, https:// or hf://.
        check: Compares the manifest with its digest, and each member of a sample with its digest when it is first read.
        cache_gb: Bounds the folder of copies of shards that lie elsewhere ($MESM_CACHE), in GB.
        window: Twice so many of those shards are fetched and kept at a time.

    Raises:
        InputError: There is no dataset, or the cache has no room for two windows.
        MesmError: The server cannot be reached.

    Examples:
        >>> import mesm_data
        >>> dataset = mesm_data.open_dataset("data/iemocap")
        >>> dataset  # doctest: +ELLIPSIS
        Dataset(iemocap (synthetic): ... utterances, ... min, root ...)
        >>> dataset[dataset.keys[0]]  # doctest: +ELLIPSIS
        Sample(Ses01...: ... faces, ... s, ...)
    """
    place = str(place)
    if path := local_path(place):
        return Dataset(path, check=check)
    said = _described(place)
    cache = Cache(cache_folder(), int(cache_gb * GB))
    sizes = sorted((shard["size"] for shard in said["shards"].values()), reverse=True)
    need = sum(sizes[: 2 * window])
    if need > cache.limit:
        raise InputError(
            f"loader.cache_gb={cache_gb:g} has no room for two windows of {window} shards of {redact_url(place)}, "
            f"{need / GB:.3g} GB: make it larger, or loader.window smaller"
        )
    folder = cache.dataset_folder(said["root"])
    with cache.write_lock(said["root"], "dataset", wait=True):
        _keep(place, said, folder)
    dataset = Dataset(folder, check=check, store=RemoteShards(place, said, cache, most=2 * window))
    if not check:
        dataset.check_root()  # the cache is shared: its copies are compared in any case
    return dataset


def _described(url: str) -> dict[str, Any]:
    """dataset.json at `url`, whose root is that of what it names."""
    place = remote.join_url(url, "dataset.json")
    try:
        return parse_dataset_info(remote.read_bytes(place, limit=MAX_INFO_BYTES), redact_url(place))
    except RemoteFileNotFound as error:
        raise InputError(f"{error}. Expected the URL of a folder that `mesm-data build` wrote") from None


def _keep(url: str, said: dict[str, Any], folder: Path) -> None:
    """The manifest and dataset.json in the cache. Raises MesmError if the manifest is not the one that is named."""
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    # dataset.json is written when the manifest has been checked.
    if not ((folder / "dataset.json").exists() and (folder / "manifest.parquet").exists()):
        place = remote.join_url(url, "manifest.parquet")
        with atomic_write(folder / "manifest.parquet") as file:
            file.write(remote.read_bytes(place, limit=MAX_MANIFEST_BYTES))
        try:
            check_manifest_digest(folder, said)
        except MesmError:
            raise MesmError(
                f"{redact_url(place)} is not the table that dataset.json names: it was replaced or damaged there"
            ) from None
    text = json.dumps(said, sort_keys=True, ensure_ascii=False, indent=2).encode()
    if not (folder / "dataset.json").exists() or (folder / "dataset.json").read_bytes() != text:
        with atomic_write(folder / "dataset.json") as file:
            file.write(text)


class RemoteShards(ShardStore):
    """Shards of the dataset `said` (dataset.json) at `url`.

    `most` shards are held at a time: those that are read, and then the next ones in the order of use, which threads
    fetch ahead. A held shard stays in the cache. One that is asked for and is not there is fetched at once.
    """

    def __init__(self, url: str, said: dict[str, Any], cache: Cache, *, most: int) -> None:
        self.url, self.root, self.shards, self.cache = url, said["root"], said["shards"], cache
        self.folder = cache.dataset_folder(self.root) / "shards"
        self._most = most
        self._changed = Condition()
        self._held: dict[str, int] = {}  # descriptors, see Cache.hold
        self._next: list[str] = []  # expected, in order, and not begun
        self._begun: set[str] = set()  # being fetched ahead
        self._threads: list[Thread] = []

    def path(self, name: str) -> Path:
        """The shard `name`. Waits for it alone. Raises MesmError if it cannot be had."""
        while not self._hold(name):
            self._fetch(name, wait=True)
        return self.folder / name

    def stream(self, name: str) -> BufferedReader:
        """Read the shard where it lies."""
        return remote.open_stream(remote.join_url(self.url, "shards", name), self.shards[name]["size"])

    def source(self, name: str) -> str:
        """The URL, without what may be secret."""
        return redact_url(remote.join_url(self.url, "shards", name))

    def __reduce__(self) -> tuple[Callable[[], "RemoteShards"], tuple[()]]:
        # In another process: it holds no shard, and has no threads, until it reads.
        info = {"root": self.root, "shards": self.shards}
        return partial(RemoteShards, self.url, info, self.cache, most=self._most), ()

    def expect(self, names: Sequence[str]) -> None:
        """Begin to fetch `names`, and let go of all others."""
        with self._changed:
            self._next = [name for name in names if name not in self._held]
            for name in self._held.keys() - set(names):
                os.close(self._held.pop(name))
            while len(self._threads) < min(PREFETCH_THREADS, len(self._next)):
                # Daemons: a process that ends does not wait for what it will not use.
                self._threads.append(Thread(target=self._ahead, name="mesm-fetch", daemon=True))
                self._threads[-1].start()
            self._changed.notify_all()

    def release(self, name: str) -> None:
        """The shard may be deleted when others need the room."""
        with self._changed:
            if name in self._held:
                os.close(self._held.pop(name))
                self._changed.notify_all()

    def remedy(self, file: str) -> str:
        """A copy can be fetched again."""
        place = redact_url(remote.join_url(self.url, *file.split("/")))
        return f"it is a copy of {place}: delete it, and it is fetched again"

    def _hold(self, name: str) -> bool:
        """Keep a shard that is there from being deleted."""
        with self._changed:
            if name in self._held:
                return True
            descriptor = self.cache.pin(self.folder / name, self.shards[name]["size"])
            if descriptor is None:
                return False
            self._held[name] = descriptor
            if name in self._next:
                self._next.remove(name)
            self._changed.notify_all()
            return True

    def _fetch(self, name: str, *, wait: bool) -> bool:
        """Fetch a shard, if it is not there yet. Without `wait`: False if another process does, or there is no room."""
        said = self.shards[name]
        with self.cache.write_lock(self.root, name, wait=wait) as writer:
            if writer is None:
                return False
            if self._hold(name):
                return True
            if not self.cache.reserve(writer, said["size"], force=wait):
                return False
            place = remote.join_url(self.url, "shards", name)
            remote.download_file(place, self.folder / name, size=said["size"], sha256=said["sha256"])
            return True

    def _ahead(self) -> None:
        """Fetch what is expected, until there is no more."""
        while name := self._take():
            try:
                done = self._hold(name) or (self._fetch(name, wait=False) and self._hold(name))
            except MesmError:
                done = True  # who asks for it tries again, and is told
            with self._changed:
                self._begun.discard(name)
                if not done:
                    self._changed.wait(RETRY_SECONDS)
                elif name in self._next:
                    self._next.remove(name)
                self._changed.notify_all()

    def _take(self) -> str | None:
        """The next shard to fetch ahead, when not too many are held; None when none is left.

        The first one has the network to itself: somebody waits for it.
        """
        with self._changed:
            while self._next:
                free = (name for name in self._next if name not in self._begun)
                most = self._most if self._held else 1
                if len(self._held) + len(self._begun) < most and (name := next(free, None)):
                    self._begun.add(name)
                    return name
                self._changed.wait()
            self._threads.remove(current_thread())
            return None

"""Remote datasets: whole shards are fetched into the cache, in the order of use and ahead of it."""

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
from mesm_data.storage.remote_stream import open_stream

PREFETCH_THREADS = 4  # per process
RETRY_SECONDS = 1.0  # between two checks whether another process has fetched a shard or made room
MAX_MANIFEST_BYTES = 2**28


def open_dataset(place: str | Path, *, check: bool = False, cache_gb: float = 50, window: int = 16) -> Dataset:
    """Open a dataset in a folder or at a URL.

    Args:
        place: A folder that `mesm-data build` wrote, or its URL: s3://, https:// or hf://.
        check: Whether to compare the manifest with its digest, and each member of a sample with its digest when it is
            first read.
        cache_gb: The size limit of the folder for copies of remote shards ($MESM_CACHE), in GB.
        window: Half the number of remote shards that are kept and fetched ahead at a time.

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
    info = _fetch_info(place)
    cache = Cache(cache_folder(), int(cache_gb * GB))
    sizes = sorted((shard["size"] for shard in info["shards"].values()), reverse=True)
    need = sum(sizes[: 2 * window])
    if need > cache.limit:
        raise InputError(
            f"loader.cache_gb={cache_gb:g} has no room for two windows of {window} shards of {redact_url(place)}, "
            f"{need / GB:.3g} GB: make it larger, or loader.window smaller"
        )
    folder = cache.dataset_folder(info["root"])
    with cache.write_lock(info["root"], "dataset", wait=True):
        _cache_metadata(place, info, folder)
    dataset = Dataset(folder, check=check, store=RemoteShards(place, info, cache, max_shards=2 * window))
    if not check:
        dataset.check_root()  # always, because the cache is shared
    return dataset


def _fetch_info(url: str) -> dict[str, Any]:
    """Fetch and check dataset.json of the dataset at `url`."""
    place = remote.join_url(url, "dataset.json")
    try:
        return parse_dataset_info(remote.read_bytes(place, limit=MAX_INFO_BYTES), redact_url(place))
    except RemoteFileNotFound as error:
        raise InputError(f"{error}. Expected the URL of a folder that `mesm-data build` wrote") from None


def _cache_metadata(url: str, info: dict[str, Any], folder: Path) -> None:
    """Store the manifest and dataset.json in the cache. Raises MesmError if the manifest has another digest."""
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    # dataset.json is written after the manifest has been checked.
    if not ((folder / "dataset.json").exists() and (folder / "manifest.parquet").exists()):
        place = remote.join_url(url, "manifest.parquet")
        with atomic_write(folder / "manifest.parquet") as file:
            file.write(remote.read_bytes(place, limit=MAX_MANIFEST_BYTES))
        try:
            check_manifest_digest(folder, info)
        except MesmError:
            raise MesmError(
                f"{redact_url(place)} is not the table that dataset.json names: it was replaced or damaged there"
            ) from None
    text = json.dumps(info, sort_keys=True, ensure_ascii=False, indent=2).encode()
    if not (folder / "dataset.json").exists() or (folder / "dataset.json").read_bytes() != text:
        with atomic_write(folder / "dataset.json") as file:
            file.write(text)


class RemoteShards(ShardStore):
    """The shards of a remote dataset.

    A limited number of shards is pinned, so that they stay in the cache: those that are being read, and then the next
    ones in the order of use, which threads prefetch. A shard that is needed and missing is fetched at once.

    Args:
        url: The URL of the dataset.
        info: The content of dataset.json.
        cache: The cache.
        max_shards: The number of shards that are pinned or fetched at a time.
    """

    def __init__(self, url: str, info: dict[str, Any], cache: Cache, *, max_shards: int) -> None:
        self.url, self.root, self.shards, self.cache = url, info["root"], info["shards"], cache
        self.folder = cache.dataset_folder(self.root) / "shards"
        self._max_shards = max_shards
        self._changed = Condition()
        self._pinned: dict[str, int] = {}  # file descriptors, see Cache.hold
        self._queue: list[str] = []  # to prefetch, in order
        self._in_progress: set[str] = set()  # being prefetched
        self._threads: list[Thread] = []

    def path(self, name: str) -> Path:
        """The path of the shard `name`, once it is in the cache. Raises MesmError if it cannot be fetched."""
        while not self._pin(name):
            self._fetch(name, wait=True)
        return self.folder / name

    def stream(self, name: str) -> BufferedReader:
        """Read the shard from its URL."""
        return open_stream(remote.join_url(self.url, "shards", name), self.shards[name]["size"])

    def source(self, name: str) -> str:
        """The URL, without secrets."""
        return redact_url(remote.join_url(self.url, "shards", name))

    def __reduce__(self) -> tuple[Callable[[], "RemoteShards"], tuple[()]]:
        # The copy in another process has no pinned shards and no threads until it reads.
        info = {"root": self.root, "shards": self.shards}
        return partial(RemoteShards, self.url, info, self.cache, max_shards=self._max_shards), ()

    def prefetch(self, names: Sequence[str]) -> None:
        """Start to fetch `names` in this order; unpin all others."""
        with self._changed:
            self._queue = [name for name in names if name not in self._pinned]
            for name in self._pinned.keys() - set(names):
                os.close(self._pinned.pop(name))
            while len(self._threads) < min(PREFETCH_THREADS, len(self._queue)):
                # Daemon threads: a process that ends does not wait for shards that it will not read.
                self._threads.append(Thread(target=self._prefetch_loop, name="mesm-fetch", daemon=True))
                self._threads[-1].start()
            self._changed.notify_all()

    def release(self, name: str) -> None:
        """Unpin the shard: it may be deleted when others need the room."""
        with self._changed:
            if name in self._pinned:
                os.close(self._pinned.pop(name))
                self._changed.notify_all()

    def repair_hint(self, file: str) -> str:
        """Delete the copy, so that it is fetched again."""
        place = redact_url(remote.join_url(self.url, *file.split("/")))
        return f"it is a copy of {place}: delete it, and it is fetched again"

    def _pin(self, name: str) -> bool:
        """Pin a shard, so that it is not deleted. Returns whether it is in the cache."""
        with self._changed:
            if name in self._pinned:
                return True
            descriptor = self.cache.pin(self.folder / name, self.shards[name]["size"])
            if descriptor is None:
                return False
            self._pinned[name] = descriptor
            if name in self._queue:
                self._queue.remove(name)
            self._changed.notify_all()
            return True

    def _fetch(self, name: str, *, wait: bool) -> bool:
        """Fetch a shard, if it is missing.

        Args:
            name: The shard.
            wait: Whether to wait for another process that fetches it, and to make room in any case.

        Returns:
            Whether the shard is in the cache.
        """
        entry = self.shards[name]
        with self.cache.write_lock(self.root, name, wait=wait) as writer:
            if writer is None:
                return False
            if self._pin(name):
                return True
            if not self.cache.reserve(writer, entry["size"], force=wait):
                return False
            place = remote.join_url(self.url, "shards", name)
            remote.download_file(place, self.folder / name, size=entry["size"], sha256=entry["sha256"])
            return True

    def _prefetch_loop(self) -> None:
        """Fetch the shards of the queue until it is empty."""
        while name := self._next_shard():
            try:
                done = self._pin(name) or (self._fetch(name, wait=False) and self._pin(name))
            except MesmError:
                done = True  # the reader of this shard tries again, and raises
            with self._changed:
                self._in_progress.discard(name)
                if not done:
                    self._changed.wait(RETRY_SECONDS)
                elif name in self._queue:
                    self._queue.remove(name)
                self._changed.notify_all()

    def _next_shard(self) -> str | None:
        """Wait until another shard may be prefetched, and return it; None when the queue is empty.

        The first shard is fetched alone, because the reader waits for it.
        """
        with self._changed:
            while self._queue:
                waiting = (name for name in self._queue if name not in self._in_progress)
                limit = self._max_shards if self._pinned else 1
                if len(self._pinned) + len(self._in_progress) < limit and (name := next(waiting, None)):
                    self._in_progress.add(name)
                    return name
                self._changed.wait()
            self._threads.remove(current_thread())
            return None

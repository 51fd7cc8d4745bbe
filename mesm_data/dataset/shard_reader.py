"""Read the members of samples from memory-mapped shards."""

import mmap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from mesm_data.dataset.manifest import member_columns
from mesm_data.dataset.manifest_index import ManifestRows
from mesm_data.dataset.members import EXTENSIONS
from mesm_data.dataset.shard_store import ShardStore
from mesm_data.dataset.tar import BLOCK, tar_header
from mesm_data.errors import MesmError
from mesm_data.storage.files import open_regular_file


class ShardReader:
    """Reads the members of samples. Thread-safe.

    Args:
        path: The folder of the dataset.
        info: The content of dataset.json.
        rows: The manifest.
        built: The row number of each utterance that was built, by its key.
        store: Where the shards are.
        check: Whether to compare each member with its digest, and its tar header with the format's, when it is first
            read.
    """

    def __init__(
        self,
        path: Path,
        info: Mapping[str, Any],
        rows: ManifestRows,
        built: Mapping[str, int],
        store: ShardStore,
        *,
        check: bool,
    ) -> None:
        self._path, self._info, self._rows, self._built, self._store = path, info, rows, built, store
        self._shards = rows.column("shard")
        self._positions = [tuple(rows.int_column(name) for name in member_columns(ext)[:2]) for ext in EXTENSIONS]
        self._maps: dict[str, mmap.mmap] = {}
        self._remaining_reads: Counter[str] = Counter()  # of those that `prefetch` announced, by shard
        self._lock = Lock()
        self._unchecked = set(built) if check else set()

    def shard(self, key: str) -> str:
        """The name of the shard that contains a sample."""
        return str(self._shards[self._built[key]])

    def members(self, key: str) -> list[memoryview]:
        """The bytes of each member of EXTENSIONS. Raises ValueError if a check fails."""
        number = self._built[key]
        shard = memoryview(self._map(self.shard(key)))
        # They lie inside the shard: see validation.py.
        positions = [(int(offsets[number]), int(sizes[number])) for offsets, sizes in self._positions]
        members = [shard[offset : offset + size] for offset, size in positions]
        if key in self._unchecked:
            headers = [shard[offset - BLOCK : offset] for offset, _ in positions]
            for extension, header, member in zip(EXTENSIONS, headers, members, strict=True):
                if header != tar_header(f"{key}.{extension}", len(member)):
                    raise ValueError(f"{extension} has another tar header than this format's")
            self.check_digests(key, members)
        return members

    def check_digests(self, key: str, members: Sequence[bytes | memoryview]) -> None:
        """If not done yet, compare members with their digests in the manifest. Raises ValueError if one differs."""
        if key not in self._unchecked:
            return
        for extension, member in zip(EXTENSIONS, members, strict=True):
            if sha256(member).hexdigest() != self._rows.value(self._built[key], member_columns(extension)[2]):
                raise ValueError(f"{extension} has another sha256 than the manifest says")
        self._unchecked.discard(key)

    def prefetch(self, keys: Iterable[str]) -> None:
        """Announce the order in which samples will be read; replaces earlier announcements.

        The store fetches their shards in this order, and each shard is unmapped after its last sample.
        """
        reads = Counter(map(self.shard, keys))
        with self._lock:
            self._remaining_reads = reads
            for name in self._maps.keys() - reads.keys():
                self._unmap(name)
        self._store.prefetch(list(reads))

    def finish_read(self, key: str) -> None:
        """Count an announced read of a sample; after the last one its shard is unmapped."""
        name = self.shard(key)
        with self._lock:
            self._remaining_reads[name] -= 1
            if self._remaining_reads[name] == 0:
                self._unmap(name)

    def _unmap(self, name: str) -> None:
        # Samples that are still in use keep the memory map alive.
        self._maps.pop(name, None)
        self._store.release(name)

    def _map(self, name: str) -> mmap.mmap:
        shard = self._maps.get(name)  # another thread may unmap it at any time
        if shard is None:
            path, expected = self._store.path(name), self._info["shards"][name]["size"]
            try:
                with open_regular_file(path) as file:
                    if (size := file.seek(0, 2)) != expected:
                        raise MesmError(
                            f"{path} has {size} bytes, dataset.json says {expected}; `mesm-data verify {self._path}` "
                            "says which samples that concerns"
                        )
                    shard = self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise MesmError(f"{path} cannot be read ({error})") from None
        return shard

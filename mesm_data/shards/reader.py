"""Random access to samples: an index and memory maps, nothing is copied until it is used.

Stock readers work on the same files (webdataset, Hugging Face datasets, tar); this one is for those who know a key.
"""

import json
import mmap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError, MesmError
from mesm_data.shards import dataset, manifest
from mesm_data.shards.manifest import member_columns
from mesm_data.shards.members import EXTENSIONS, decode_faces, decode_wav
from mesm_data.shards.rows import Rows
from mesm_data.shards.store import LocalShards, ShardStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One utterance. `faces`: uint8 (n, size, size, 3) RGB; `samples`: int16 (n,) at 16 kHz; both read-only views.

    `json` is the member as it lies in the shard; `record` parses it, which takes longer than all the rest.
    """

    key: str
    faces: NDArray[np.uint8]
    samples: NDArray[np.int16]
    text: str
    json: memoryview

    @property
    def record(self) -> dict[str, Any]:
        """What the sample says of itself. Raises MesmError if that is not JSON."""
        try:
            found: dict[str, Any] = json.loads(bytes(self.json))
        except ValueError as error:
            raise MesmError(f"sample {self.key} is damaged: its json is not JSON ({error})") from None
        return found


class Dataset:
    """A dataset on disk. `info` is dataset.json, `rows` the manifest, `keys` what was built, in manifest order.

    `check`: compare each member with its digest when it is first read. `store`: where the shards are (default: beside
    the manifest). Safe for several threads.
    """

    def __init__(self, path: Path, *, check: bool = False, store: ShardStore | None = None) -> None:
        self.path = path
        self.info = dataset.describe(path)
        self.store = store or LocalShards(path / "shards")
        self.rows = Rows(manifest.read_table(path / "manifest.parquet"))
        self._shards = self.rows.column("shard")
        self._places = [tuple(self.rows.numbers(name) for name in member_columns(ext)[:2]) for ext in EXTENSIONS]
        pairs = zip(self.rows, self.rows.column("status"), strict=True)
        self._built = {key: number for number, (key, status) in enumerate(pairs) if status == "ok"}
        self.keys = list(self._built)
        self._maps: dict[str, mmap.mmap] = {}
        self._left: Counter[str] = Counter()  # reads that were announced, by shard; not where shards stay
        self._lock = Lock()
        self._unchecked = set(self.keys) if check else set()

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Sample]:
        return (self[key] for key in self.keys)

    def __getitem__(self, key: str) -> Sample:
        """The sample `key`. Raises KeyError if it was not built, MesmError if the shard does not hold it."""
        if key not in self._built:
            row = self.rows[key]
            raise KeyError(f"{key} is {row['status']} ({row['reason']})")
        try:
            faces, record, text, wav = self._members(self._built[key])
            if key in self._unchecked:
                self._compare(key, (faces, record, text, wav))
                self._unchecked.discard(key)
            return Sample(
                key=key, faces=decode_faces(faces), samples=decode_wav(wav), text=str(text, "utf-8"), json=record
            )
        except ValueError as error:
            shard = self.shard(key)
            raise MesmError(
                f"{self.path / 'shards' / shard}: sample {key} is damaged ({error}); {self.store.remedy(shard)}"
            ) from None
        finally:
            self._read(self.shard(key))

    def member(self, key: str, extension: str) -> memoryview:
        """The bytes of one member, as they lie in the shard. Raises KeyError, or ValueError if it lies outside."""
        return self._members(self._built[key])[EXTENSIONS.index(extension)]

    def shard(self, key: str) -> str:
        """The name of the shard that holds `key`."""
        return str(self._shards[self._built[key]])

    def expect(self, keys: Iterable[str]) -> None:
        """Say in which order samples will be read, each as often as it is named; what was said before is void.

        So the store can have their shards ready, and let go of each after its last sample.
        """
        left = Counter(map(self.shard, keys))
        if not self.store.keeps:
            with self._lock:
                self._left = left
                for name in self._maps.keys() - left.keys():
                    self._drop(name)
        self.store.expect(list(left))

    def _read(self, shard: str) -> None:
        """Count a read that was announced; after the last one the shard is let go."""
        if self.store.keeps:
            return
        with self._lock:
            self._left[shard] -= 1
            if self._left[shard] == 0:
                self._drop(shard)

    def _drop(self, shard: str) -> None:
        # Samples that are still in use keep their memory map, and with it the bytes, until they are gone.
        self._maps.pop(shard, None)
        self.store.release(shard)

    def _members(self, number: int) -> list[memoryview]:
        """The bytes of the members, as they lie in the shard."""
        shard = self._map(self._shards[number])
        found = []
        for extension, (offsets, sizes) in zip(EXTENSIONS, self._places, strict=True):
            offset, size = int(offsets[number]), int(sizes[number])
            if not 0 <= offset <= offset + size <= len(shard):
                raise ValueError(f"{extension} lies outside its shard")
            found.append(memoryview(shard)[offset : offset + size])
        return found

    def _compare(self, key: str, members: tuple[memoryview, ...]) -> None:
        for extension, member in zip(EXTENSIONS, members, strict=True):
            said = self.rows.value(self._built[key], member_columns(extension)[2])
            if sha256(member).hexdigest() != said:
                raise ValueError(f"{extension} has another sha256 than the manifest says")

    def _map(self, name: str) -> mmap.mmap:
        found = self._maps.get(name)  # another thread may drop it at any time
        if found is None:
            if name not in self.info["shards"]:  # also keeps a lying manifest inside the folder
                raise InputError(f"{self.path / 'manifest.parquet'} names a shard {name!r} that dataset.json does not")
            path = self.store.path(name)
            try:
                with path.open("rb") as file:
                    found = self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise MesmError(f"{path} cannot be read ({error})") from None
        return found

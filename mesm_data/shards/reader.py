"""Random access to samples: an index and memory maps, nothing is copied until it is used.

Stock readers work on the same files (webdataset, Hugging Face datasets, tar); this one is for those who know a key.
"""

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

from mesm_data.errors import MesmError
from mesm_data.files import open_regular_file, parse_json
from mesm_data.shards import dataset
from mesm_data.shards.manifest import member_columns
from mesm_data.shards.members import EXTENSIONS, decode_faces, decode_wav
from mesm_data.shards.rows import Rows
from mesm_data.shards.store import LocalShards, ShardStore
from mesm_data.shards.tar import BLOCK, header

MAX_RECORD = 8 * 2**20  # ten hours of one utterance


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
        """What the sample says of itself. Raises MesmError if that is not a JSON object, or longer than any record."""
        try:
            if len(self.json) > MAX_RECORD:
                raise ValueError(f"more than {MAX_RECORD >> 20} MiB")
            found = parse_json(bytes(self.json))
            if not isinstance(found, dict):
                raise ValueError("not an object")
        except ValueError as error:
            raise MesmError(f"sample {self.key} is damaged: its json is not a record ({error})") from None
        return found


class Dataset:
    """A dataset on disk. `info` is dataset.json, `rows` the manifest, `keys` what was built, in manifest order.

    `check`: compare the manifest with its digest and the root, and each member with its digest and its tar header with
    the format's when it is first read; InputError or MesmError if they differ. `store`: where the shards are (default:
    beside the manifest). Safe for several threads.
    """

    def __init__(self, path: Path, *, check: bool = False, store: ShardStore | None = None) -> None:
        self.path = path
        self.info = dataset.describe(path)
        self.store = store or LocalShards(path / "shards")
        self.rows = Rows(dataset.table(path, self.info))
        if check:
            self.check_root()
        self._shards = self.rows.column("shard")
        self._places = [tuple(self.rows.numbers(name) for name in member_columns(ext)[:2]) for ext in EXTENSIONS]
        pairs = zip(self.rows, self.rows.column("status"), strict=True)
        self._built = {key: number for number, (key, status) in enumerate(pairs) if status == "ok"}
        self.keys = list(self._built)
        self._face_size = int(self.info["recipe"]["face_size"])
        self._maps: dict[str, mmap.mmap] = {}
        self._left: Counter[str] = Counter()  # reads that were announced, by shard
        self._lock = Lock()
        self._unchecked = set(self.keys) if check else set()

    def check_root(self) -> None:
        """Compare the manifest with its digest and the root. Raises InputError if they differ."""
        dataset.check_root(self.path, self.info, self.rows.dictionaries(), self.store.remedy("manifest.parquet"))

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
            faces, record, text, wav = self.members(key)
            crops = decode_faces(faces)
            if crops.shape[1:3] != (self._face_size, self._face_size):
                raise ValueError(f"its faces are not {self._face_size} pixels wide and high")
            return Sample(key=key, faces=crops, samples=decode_wav(wav), text=str(text, "utf-8"), json=record)
        except ValueError as error:
            file = f"shards/{self.shard(key)}"
            raise MesmError(
                f"{self.path / file}: sample {key} is damaged ({error}); {self.store.remedy(file)}"
            ) from None
        finally:
            self._read(self.shard(key))

    def member(self, key: str, extension: str) -> memoryview:
        """The bytes of one member, as they lie in the shard. Raises as `members`."""
        return self.members(key)[EXTENSIONS.index(extension)]

    def shard(self, key: str) -> str:
        """The name of the shard that holds `key`."""
        return str(self._shards[self._built[key]])

    def expect(self, keys: Iterable[str]) -> None:
        """Say in which order samples will be read, each as often as it is named; what was said before is void.

        So the store can have their shards ready, and each is unmapped after its last sample.
        """
        left = Counter(map(self.shard, keys))
        with self._lock:
            self._left = left
            for name in self._maps.keys() - left.keys():
                self._drop(name)
        self.store.expect(list(left))

    def _read(self, shard: str) -> None:
        """Count a read that was announced; after the last one the shard is unmapped."""
        with self._lock:
            self._left[shard] -= 1
            if self._left[shard] == 0:
                self._drop(shard)

    def _drop(self, shard: str) -> None:
        # Samples that are still in use keep their memory map, and with it the bytes, until they are gone.
        self._maps.pop(shard, None)
        self.store.release(shard)

    def members(self, key: str) -> list[memoryview]:
        """The bytes of each member of EXTENSIONS as they lie in the shard; where checked, ValueError if they differ."""
        number = self._built[key]
        shard = memoryview(self._map(self._shards[number]))
        # Inside the shard: see claims.py.
        places = [(int(offsets[number]), int(sizes[number])) for offsets, sizes in self._places]
        found = [shard[offset : offset + size] for offset, size in places]
        if key in self._unchecked:
            self._compare(key, [shard[offset - BLOCK : offset] for offset, _ in places], found)
            self._unchecked.discard(key)
        return found

    def _compare(self, key: str, heads: list[memoryview], members: list[memoryview]) -> None:
        for extension, head, member in zip(EXTENSIONS, heads, members, strict=True):
            if head != header(f"{key}.{extension}", len(member)):
                raise ValueError(f"{extension} has another tar header than this format's")
            said = self.rows.value(self._built[key], member_columns(extension)[2])
            if sha256(member).hexdigest() != said:
                raise ValueError(f"{extension} has another sha256 than the manifest says")

    def _map(self, name: str) -> mmap.mmap:
        found = self._maps.get(name)  # another thread may drop it at any time
        if found is None:
            path, size = self.store.path(name), self.info["shards"][name]["size"]
            try:
                with open_regular_file(path) as file:
                    if (there := file.seek(0, 2)) != size:
                        raise MesmError(
                            f"{path} has {there} bytes, dataset.json says {size}; `mesm-data verify {self.path}` says "
                            "which samples that concerns"
                        )
                    found = self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise MesmError(f"{path} cannot be read ({error})") from None
        return found

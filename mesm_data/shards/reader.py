"""Random access to samples: an index and memory maps, nothing is copied until it is used.

Stock readers work on the same files (webdataset, Hugging Face datasets, tar); this one is for those who know a key.
"""

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError, MesmError
from mesm_data.shards import dataset, manifest
from mesm_data.shards.manifest import member_columns
from mesm_data.shards.members import EXTENSIONS, decode_faces, decode_wav


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One utterance. `faces`: uint8 (n, size, size, 3) RGB; `samples`: int16 (n,) at 16 kHz; both read-only views."""

    key: str
    faces: NDArray[np.uint8]
    samples: NDArray[np.int16]
    text: str
    record: dict[str, Any]


class Dataset:
    """A dataset on disk. `info` is dataset.json, `rows` the manifest, `keys` what was built, in manifest order.

    `check`: compare each member with its digest when it is first read. Safe for several threads.
    """

    def __init__(self, path: Path, *, check: bool = False) -> None:
        self.path = path
        self.info = dataset.describe(path)
        self.rows = {row["key"]: row for row in manifest.read(path / "manifest.parquet")}
        self.keys = [key for key, row in self.rows.items() if row["status"] == "ok"]
        self._maps: dict[str, mmap.mmap] = {}
        self._unchecked = {key for key in self.keys if check}

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Sample]:
        return (self[key] for key in self.keys)

    def __getitem__(self, key: str) -> Sample:
        """The sample `key`. Raises KeyError if it was not built, MesmError if the shard does not hold it."""
        row = self.rows[key]
        if row["status"] != "ok":
            raise KeyError(f"{key} is {row['status']} ({row['reason']})")
        try:
            faces, record, text, wav = (self.member(key, extension) for extension in EXTENSIONS)
            if key in self._unchecked:
                self._compare(row, (faces, record, text, wav))
                self._unchecked.discard(key)
            return Sample(
                key=key,
                faces=decode_faces(faces),
                samples=decode_wav(wav),
                text=str(text, "utf-8"),
                record=json.loads(bytes(record)),
            )
        except ValueError as error:
            raise MesmError(
                f"{self.path / 'shards' / row['shard']}: sample {key} is damaged ({error}); "
                f"`mesm-data verify {self.path}` lists all that are"
            ) from None

    def member(self, key: str, extension: str) -> memoryview:
        """The bytes of one member, as they lie in the shard."""
        row = self.rows[key]
        offset, size, _ = (row[column] for column in member_columns(extension))
        shard = self._map(row["shard"])
        if not 0 <= offset <= offset + size <= len(shard):
            raise ValueError(f"{extension} lies outside its shard")
        return memoryview(shard)[offset : offset + size]

    def _compare(self, row: dict[str, Any], members: tuple[memoryview, ...]) -> None:
        for extension, member in zip(EXTENSIONS, members, strict=True):
            if sha256(member).hexdigest() != row[member_columns(extension)[2]]:
                raise ValueError(f"{extension} has another sha256 than the manifest says")

    def _map(self, name: str) -> mmap.mmap:
        if name not in self._maps:
            if name not in self.info["shards"]:  # also keeps a lying manifest inside the folder
                raise InputError(f"{self.path / 'manifest.parquet'} names a shard {name!r} that dataset.json does not")
            try:
                with (self.path / "shards" / name).open("rb") as file:
                    self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise MesmError(f"{self.path / 'shards' / name} cannot be read ({error})") from None
        return self._maps[name]

"""A feature set on disk, and its reader.

DIR/features/<name>/values.tar      <key>.npy of each utterance, float32 (n, d): a canonical tar, also for webdataset
DIR/features/<name>/index.parquet   key, offset, size and sha256 of each member, its rows and when they begin
DIR/features/<name>/features.json   what the set is; written last
"""

import mmap
import re
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa

from mesm_data.dataset.manifest import read_table, rows_digest
from mesm_data.dataset.members import NPY_HEADER_SIZE, npy_header
from mesm_data.dataset.tar import BLOCK
from mesm_data.errors import InputError, MesmError
from mesm_data.features.base import Features, Floats
from mesm_data.storage.files import open_regular_file
from mesm_data.storage.json_files import canonical_json
from mesm_data.storage.json_shapes import NUMBER, MapOf, read_checked_json

FORMAT = 1
FOLDER = "features"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "offset": pa.int64(),
        "size": pa.int64(),
        "sha256": pa.string(),
        "rows": pa.int64(),
        "start": pa.float64(),  # of the first row in seconds of the utterance; null: not known, or no row
        "times": pa.list_(pa.float64()),  # of all rows, where they are not start + i hop; else null
    }
)
INFO = {
    "features": int,
    "name": str,
    "kind": str,
    "dataset": str,
    "columns": [str],
    "hop": (int, float, NoneType),
    "licence": str,
    "digest": str,
    "counts": {"utterances": int, "rows": int, "empty": int},
    "index": str,
    "tar": {"size": int, "sha256": str},
    "word_vectors?": MapOf([NUMBER]),
}


@dataclass(frozen=True)
class FeatureSet:
    """The features of a dataset's utterances by key, from a memory map. Safe for several threads.

    Attributes:
        path: The folder of the set.
        info: The content of features.json.
        table: The content of index.parquet.
        data: The content of values.tar; None: it is read from the folder.
        repair_hint: What the user can do about a damaged file.

    Examples:
        >>> from mesm_data.features.feature_set import open_set
        >>> features = open_set("data/iemocap", "hog")
        >>> key = next(iter(features.rows))
        >>> features[key].values.shape[1] == features.dim
        True
    """

    path: Path
    info: dict[str, Any]
    table: pa.Table
    data: memoryview | None = field(default=None, repr=False, compare=False)
    repair_hint: str = "compute the set again with --overwrite"

    @property
    def name(self) -> str:
        """The name under which settings refer to the set."""
        return str(self.info["name"])

    @property
    def dim(self) -> int:
        """Numbers of a row."""
        return len(self.info["columns"])

    def summary(self) -> dict[str, Any]:
        """What the set is, how much it holds, the digest of its settings, and the licence sentence of its features."""
        counts = self.info["counts"]
        return {
            "kind": self.info["kind"],
            "digest": self.info["digest"],
            "numbers": self.dim,
            "hop": self.info["hop"],
            "rows": counts["rows"],
            "utterances": counts["utterances"],
            "empty": counts["empty"],
            "not_finite": counts.get("not_finite", 0),
            "licence": self.info["licence"],
        }

    @cached_property
    def rows(self) -> dict[str, int]:
        """How many rows each utterance has."""
        return dict(zip(self.table["key"].to_pylist(), self.table["rows"].to_pylist(), strict=True))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {key: number for number, key in enumerate(self.rows)}

    @cached_property
    def _places(self) -> tuple[Any, Any, list[str]]:
        return self.table["offset"].to_numpy(), self.table["size"].to_numpy(), self.table["sha256"].to_pylist()

    @cached_property
    def _bytes(self) -> memoryview:
        if self.data is not None:
            return self.data
        file = self.path / "values.tar"
        try:
            with open_regular_file(file) as opened:
                return memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:
            raise MesmError(f"{file} cannot be read ({error}): compute the features again") from None

    def __getitem__(self, key: str) -> Features:
        """The features of an utterance. Raises KeyError, or MesmError if the file does not hold what its index says."""
        number = self._numbers[key]
        values, start = self.values(key), self.table["start"][number].as_py()
        times = self.table["times"][number].as_py()
        if times is None and start is not None:
            times = start + self.info["hop"] * np.arange(len(values))
        elif times is None and not len(values):
            times = ()
        return Features(values=values, times=None if times is None else np.array(times, np.float64))

    def values(self, key: str) -> Floats:
        """The rows of an utterance, float32 (n, d), read-only. Raises as `features[key]`."""
        number = self._numbers[key]
        offsets, sizes, digests = self._places
        member = self._bytes[int(offsets[number]) : int(offsets[number]) + int(sizes[number])]
        shape = (self.rows[key], self.dim)
        if len(member) != NPY_HEADER_SIZE + 4 * shape[0] * shape[1] or sha256(member).hexdigest() != digests[number]:
            raise MesmError(f"{self.path / 'values.tar'}: the features of {key} are damaged: {self.repair_hint}")
        return np.frombuffer(member, "<f4", offset=NPY_HEADER_SIZE).reshape(shape)


def open_set(dataset: str | Path, name: str) -> FeatureSet:
    """The feature set `name` of the dataset in the folder `dataset`.

    Raises:
        InputError: There is no such set, or its files contradict each other.
    """
    path = Path(dataset) / FOLDER / name
    if not (path / "features.json").exists():
        there = ", ".join(set_names(Path(dataset))) or "none"
        raise InputError(
            f"{dataset} has no features {name!r} (there are: {there}): compute them with `mesm-data features {dataset} "
            f"--with …`, see `mesm-data features --help`"
        )
    return read_set(path)


def read_set(path: Path) -> FeatureSet:
    """The feature set in the folder `path`. Raises InputError if its files contradict each other."""
    info = read_checked_json(path / "features.json", INFO)
    if info["features"] != FORMAT:
        raise InputError(f"{path} has format {info['features']} of features; this version of mesm reads {FORMAT}")
    table = read_table(path / "index.parquet", SCHEMA)
    if (digest := rows_digest(table.to_pylist())) != info["index"]:
        raise InputError(f"{path / 'index.parquet'} is not the table that features.json names (sha256 {digest})")
    _check_table(path, table, info)
    return FeatureSet(path=path, info=info, table=table)


def set_names(dataset: Path) -> list[str]:
    """The names of the finished feature sets of a dataset."""
    return sorted(path.parent.name for path in (dataset / FOLDER).glob("*/features.json"))


def check_dataset(features: FeatureSet, root: str, keys: list[str]) -> None:
    """Raises InputError unless `features` are those of the dataset with this root, and of all `keys`."""
    if features.info["dataset"] != root:
        raise InputError(
            f"{features.path} was computed of another dataset (root {features.info['dataset'][:12]}, this one has "
            f"{root[:12]}): compute the features again with --overwrite"
        )
    if missing := [key for key in keys if key not in features.rows]:
        raise InputError(
            f"{features.path} lacks {len(missing)} utterances of the dataset, the first is {missing[0]}: compute the "
            "features again with --overwrite"
        )


def encode_values(values: Floats) -> bytes:
    """Encode float32 (n, d) as .npy, version 1.0."""
    return npy_header("<f4", values.shape) + values.astype("<f4").tobytes()


def config_digest(kind: str, config: dict[str, Any], libraries: dict[str, str], dataset: str) -> str:
    """The sha256 of all that decides a set's values."""
    settings = {"kind": kind, "config": config, "libraries": libraries, "dataset": dataset, "format": FORMAT}
    return sha256(canonical_json(settings)).hexdigest()


def _check_table(path: Path, table: pa.Table, info: dict[str, Any]) -> None:
    """Raises InputError if a row of the index lies outside the tar, or does not fit features.json."""
    seen: set[str] = set()
    for row in table.to_pylist():
        required = [row[name] for name in ("key", "offset", "size", "sha256", "rows")]
        if (
            None in required
            or row["key"] in seen
            or row["rows"] < 0
            or row["size"] != NPY_HEADER_SIZE + 4 * len(info["columns"]) * row["rows"]
            or not BLOCK <= row["offset"] <= info["tar"]["size"] - row["size"]
            or (row["times"] is not None and len(row["times"]) != row["rows"])
            or (row["times"] is None and row["start"] is not None and info["hop"] is None)
        ):
            raise InputError(f"{path / 'index.parquet'}: {row['key']}: its row contradicts features.json")
        seen.add(row["key"])

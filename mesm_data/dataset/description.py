"""What a dataset that comes from elsewhere says of itself, checked before it is believed."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.dataset.dataset_dir import SHARD_FORMAT, dataset_root
from mesm_data.dataset.manifest import read_table_rows, rows_digest
from mesm_data.errors import InputError, MesmError
from mesm_data.storage.files import sha256_file

MAX_INFO_BYTES = 64 * 2**20  # bytes of dataset.json or published.json, which name a few hundred files
MAX_TABLE_BYTES = 2**28  # bytes of manifest.parquet's columns, decompressed; a synthetic IEMOCAP has 620 a row

_SHARD = r"[A-Za-z0-9][A-Za-z0-9_-]*\.tar"
DATASET_FILE_NAME = re.compile(
    rf"dataset\.json|manifest\.parquet|failures\.csv|recipe\.lock|README\.md|splits\.json|"
    rf"(shards|video)/{_SHARD}|video/index\.parquet"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file by its bytes."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileEntry":
        """The file at `path`, read."""
        return cls(size=path.stat().st_size, sha256=sha256_file(path))

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"size": self.size, "sha256": self.sha256}


FileEntries = dict[str, FileEntry]  # by name under the dataset's folder


def parse_dataset_info(data: bytes, where: str) -> dict[str, Any]:
    """dataset.json from its bytes. Raises InputError unless all that is used of it is sound: format, names, root."""
    said = parse_json_object(data, where)
    if said.get("format") != SHARD_FORMAT:
        raise InputError(
            f"{where} has shard format {said.get('format')!r:.40}; this version of mesm reads format {SHARD_FORMAT}"
        )
    table = said.get("manifest")
    if not isinstance(table, dict) or not is_sha256(table.get("sha256")) or not is_size(table.get("rows")):
        raise InputError(f"{where} does not say what the manifest is: it is damaged, or not of mesm")
    files = listed_files(said, where)
    if not any(name.startswith("shards/") for name in files):
        raise InputError(f"{where} names no shards: there is nothing in this dataset")
    if not isinstance(said.get("corpus"), str) or not isinstance(said.get("synthetic"), bool):
        raise InputError(f"{where} does not say which corpus it is of: it is damaged, or not of mesm")
    root = dataset_root(table["sha256"], said["shards"])
    if said.get("root") != root:
        raise InputError(f"{where} contradicts itself: its root is {said.get('root')!r:.80}, its files give {root}")
    return said


def listed_files(said: Mapping[str, Any], where: str) -> FileEntries:
    """The shards and clips that dataset.json names."""
    found: FileEntries = {}
    for folder in ("shards", "video"):
        listed = said.get(folder)
        if not isinstance(listed, dict):
            raise InputError(f"{where} does not say what is in {folder}/: it is damaged, or not of mesm")
        found |= parse_file_entries({f"{folder}/{name}": facts for name, facts in listed.items()}, where)
    return found


def check_manifest_digest(path: Path, said: Mapping[str, Any]) -> None:
    """Raises MesmError if manifest.parquet of the folder `path` is not the table that dataset.json names."""
    import pyarrow
    import pyarrow.parquet as pq

    file = path / "manifest.parquet"
    try:
        facts = pq.read_metadata(file)
        size = sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))
        if facts.num_rows != said["manifest"]["rows"] or size > MAX_TABLE_BYTES:
            raise MesmError(f"{file} has {facts.num_rows} rows ({size} bytes), named are {said['manifest']['rows']}")
        found = rows_digest(read_table_rows(file))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise MesmError(f"{file} cannot be read ({type(error).__name__}): it is damaged") from None
    if found != said["manifest"]["sha256"]:
        raise MesmError(f"{file} is not the table that dataset.json names: `mesm-data verify {path}` says more")


def parse_json_object(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object in `data`. Raises InputError if there is none."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({error!s:.80})") from None
    if not isinstance(said, dict):
        raise InputError(f"{where} does not describe a dataset of mesm")
    return said


def parse_file_entries(listed: Mapping[str, Any], where: str) -> FileEntries:
    """The files that are listed. Raises InputError on a name that no dataset has, or without size or digest."""
    found = {}
    for name, facts in listed.items():
        if not DATASET_FILE_NAME.fullmatch(name):
            raise InputError(f"{where} names a file {name!r:.80}, which no dataset has: nothing of it is fetched")
        if not isinstance(facts, dict) or not is_size(facts.get("size")) or not is_sha256(facts.get("sha256")):
            raise InputError(f"{where} does not give size and sha256 of {name}: it is damaged")
        found[name] = FileEntry(size=facts["size"], sha256=facts["sha256"])
    return found


def is_size(value: Any) -> bool:
    """Whether this can be a number of bytes or rows."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**50


def is_sha256(value: Any) -> bool:
    """Whether this can be a sha256."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None

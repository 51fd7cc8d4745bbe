"""Parse dataset.json and file lists from another machine, and check them before they are used."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.dataset.dataset_dir import SHARD_FORMAT, dataset_root
from mesm_data.dataset.manifest import read_table_rows, rows_digest
from mesm_data.dataset.validation import is_sha256
from mesm_data.errors import InputError, MesmError
from mesm_data.storage.files import sha256_file

MAX_INFO_BYTES = 64 * 2**20  # of dataset.json or published.json, which name a few hundred files
MAX_TABLE_BYTES = 2**28  # of manifest.parquet's columns, decompressed; a synthetic IEMOCAP has 620 per row

_SHARD = r"[A-Za-z0-9][A-Za-z0-9_-]*\.tar"
DATASET_FILE_NAME = re.compile(
    rf"dataset\.json|manifest\.parquet|failures\.csv|recipe\.lock|README\.md|splits\.json|"
    rf"(shards|video)/{_SHARD}|video/index\.parquet"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """Size and sha256 of a file."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileEntry":
        """The entry of the file at `path`, which is read."""
        return cls(size=path.stat().st_size, sha256=sha256_file(path))

    def as_dict(self) -> dict[str, Any]:
        """The entry as JSON."""
        return {"size": self.size, "sha256": self.sha256}


FileEntries = dict[str, FileEntry]  # by name in the dataset's folder


def parse_dataset_info(data: bytes, where: str) -> dict[str, Any]:
    """Parse dataset.json from its bytes.

    Args:
        data: The bytes.
        where: The path or URL of the file, for messages.

    Raises:
        InputError: The format, a name, a digest or the root is not valid.
    """
    info = parse_json_object(data, where)
    if info.get("format") != SHARD_FORMAT:
        raise InputError(
            f"{where} has shard format {info.get('format')!r:.40}; this version of mesm reads format {SHARD_FORMAT}"
        )
    table = info.get("manifest")
    if not isinstance(table, dict) or not is_sha256(table.get("sha256")) or not is_size(table.get("rows")):
        raise InputError(f"{where} does not say what the manifest is: it is damaged, or not of mesm")
    files = listed_files(info, where)
    if not any(name.startswith("shards/") for name in files):
        raise InputError(f"{where} names no shards: there is nothing in this dataset")
    if not isinstance(info.get("corpus"), str) or not isinstance(info.get("synthetic"), bool):
        raise InputError(f"{where} does not say which corpus it is of: it is damaged, or not of mesm")
    root = dataset_root(table["sha256"], info["shards"])
    if info.get("root") != root:
        raise InputError(f"{where} contradicts itself: its root is {info.get('root')!r:.80}, its files give {root}")
    return info


def listed_files(info: Mapping[str, Any], where: str) -> FileEntries:
    """The shards and clips that dataset.json names. Raises InputError if an entry is not valid."""
    entries: FileEntries = {}
    for folder in ("shards", "video"):
        files = info.get(folder)
        if not isinstance(files, dict):
            raise InputError(f"{where} does not say what is in {folder}/: it is damaged, or not of mesm")
        entries |= parse_file_entries({f"{folder}/{name}": facts for name, facts in files.items()}, where)
    return entries


def check_manifest_digest(path: Path, info: Mapping[str, Any]) -> None:
    """Check that manifest.parquet in the folder `path` is the table that dataset.json names, with bounded memory.

    Raises:
        MesmError: It is damaged, too large, or another table.
    """
    import pyarrow
    import pyarrow.parquet as pq

    file = path / "manifest.parquet"
    try:
        metadata = pq.read_metadata(file)
        size = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
        if metadata.num_rows != info["manifest"]["rows"] or size > MAX_TABLE_BYTES:
            raise MesmError(f"{file} has {metadata.num_rows} rows ({size} bytes), named are {info['manifest']['rows']}")
        digest = rows_digest(read_table_rows(file))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise MesmError(f"{file} cannot be read ({type(error).__name__}): it is damaged") from None
    if digest != info["manifest"]["sha256"]:
        raise MesmError(f"{file} is not the table that dataset.json names: `mesm-data verify {path}` says more")


def parse_json_object(data: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object. Raises InputError if `data` is not one."""
    try:
        info = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({error!s:.80})") from None
    if not isinstance(info, dict):
        raise InputError(f"{where} does not describe a dataset of mesm")
    return info


def parse_file_entries(listed: Mapping[str, Any], where: str) -> FileEntries:
    """Parse a list of files. Raises InputError for a name that no dataset has, or an entry without size or digest."""
    entries = {}
    for name, facts in listed.items():
        if not DATASET_FILE_NAME.fullmatch(name):
            raise InputError(f"{where} names a file {name!r:.80}, which no dataset has: nothing of it is fetched")
        if not isinstance(facts, dict) or not is_size(facts.get("size")) or not is_sha256(facts.get("sha256")):
            raise InputError(f"{where} does not give size and sha256 of {name}: it is damaged")
        entries[name] = FileEntry(size=facts["size"], sha256=facts["sha256"])
    return entries


def is_size(value: Any) -> bool:
    """Whether a value is a valid number of bytes or rows."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**50

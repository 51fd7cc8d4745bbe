"""Parse dataset.json and file lists from another machine, and check them before they are used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from mesm_data.dataset.dataset_dir import dataset_root
from mesm_data.dataset.info import FileEntry, validate_info
from mesm_data.dataset.manifest import read_table_rows, rows_digest
from mesm_data.errors import InputError, MesmError
from mesm_data.storage.json_files import parse_json

MAX_INFO_BYTES = 64 * 2**20  # of dataset.json or published.json, which name a few hundred files
MAX_TABLE_BYTES = 2**28  # of manifest.parquet's columns, decompressed; a synthetic IEMOCAP has 620 per row

FileEntries = dict[str, FileEntry]  # by name in the dataset's folder


def parse_dataset_info(data: bytes, where: str) -> dict[str, Any]:
    """Parse dataset.json from its bytes.

    Args:
        data: The bytes.
        where: The path or URL of the file, for messages.

    Raises:
        InputError: The format, a name, a digest or the root is not valid.
    """
    info = validate_info(parse_json_at(data, where), where)
    if not info["shards"]:
        raise InputError(f"{where} names no shards: there is nothing in this dataset")
    root = dataset_root(info["manifest"]["sha256"], info["shards"])
    if info["root"] != root:
        raise InputError(f"{where} contradicts itself: its root is {info['root']}, its files give {root}")
    return info


def listed_files(info: Mapping[str, Any]) -> FileEntries:
    """The shards and clips that dataset.json names."""
    return {
        f"{folder}/{name}": FileEntry(size=entry["size"], sha256=entry["sha256"])
        for folder in ("shards", "video")
        for name, entry in info[folder].items()
    }


def check_manifest_digest(path: Path, info: Mapping[str, Any]) -> None:
    """Check that manifest.parquet in the folder `path` is the table that dataset.json names, with bounded memory.

    Raises:
        MesmError: It is damaged, too large, or another table.
    """
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


def parse_json_at(data: bytes, where: str) -> Any:
    """Parse the JSON file at the path or URL `where`. Raises InputError if `data` is not JSON."""
    try:
        return parse_json(data)
    except ValueError as error:
        raise InputError(f"{where} is not valid JSON ({error!s:.80})") from None

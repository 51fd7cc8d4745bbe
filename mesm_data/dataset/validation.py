"""Validate the tables of a dataset against the format and against dataset.json, before they are used.

A dataset may come from another machine. Each size, offset and number of rows is compared with the files before memory
is allocated for it, and what readers rely on (the keys and their positions) is validated once, here.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mesm_data.dataset.info import STATUSES
from mesm_data.dataset.manifest import member_columns
from mesm_data.dataset.members import EXTENSIONS, NPY_HEADER_SIZE
from mesm_data.dataset.tar import BLOCK, RECORD, check_key
from mesm_data.errors import InputError
from mesm_data.media.wav import WAV_HEADER_SIZE
from mesm_data.schema.recordings import sample_key

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]


class Problem(NamedTuple):
    """What is wrong, and the number of the first row with it."""

    text: str
    row: int


def validate_manifest(path: Path, table: pa.Table, info: Mapping[str, Any]) -> None:
    """Raises InputError, naming the row, if the manifest at `path` does not match the format or `info`."""
    if len(table) != info["manifest"]["rows"]:
        raise InputError(f"{path} has {len(table)} rows, dataset.json says {info['manifest']['rows']}: get both again")
    keys = _read_keys(path, table)
    for text, row in _value_problems(table):
        raise InputError(f"{path}: {keys[row]}: {text}. No build writes that: get the file again")
    rows = np.flatnonzero(_flags(pc.equal(table["status"], "ok")))
    built = table.take(pa.array(rows))
    for text, row in _position_problems(built, info):
        raise InputError(f"{path}: {keys[rows[row]]}: {text}. No build writes that: get it and dataset.json again")
    samples = Counter(built.column("shard").to_pylist())
    for name, facts in info["shards"].items():
        if samples[name] != facts["samples"]:
            raise InputError(
                f"{path} has {samples[name]} samples in {name}, dataset.json says {facts['samples']}: get both again"
            )


def validate_clip_index(path: Path, table: pa.Table, info: Mapping[str, Any]) -> None:
    """Raises InputError, naming the row, if the index of clips at `path` does not match dataset.json (`info`)."""
    keys = _read_keys(path, table)
    sizes = _shard_sizes(table, info["video"])
    for text, row in (*_null_values(table, ("shard", "offset", "size", "sha256")), *_outside_shard(table, "", sizes)):
        raise InputError(f"{path}: {keys[row]}: {text}. No build writes that: get it and dataset.json again")


def _read_keys(path: Path, table: pa.Table) -> list[str]:
    """The keys of a table. Raises InputError if one is not valid or repeated."""
    keys: list[str] = table.column("key").to_pylist()
    seen = set()
    for number, key in enumerate(keys):
        try:
            check_key(key or "")
        except ValueError as error:
            raise InputError(f"{path}: row {number}: {error}") from None
        if key in seen:
            raise InputError(f"{path}: {key} has two rows: get the file again")
        seen.add(key)
    return keys


def _value_problems(table: pa.Table) -> Iterator[Problem]:
    """Find values that no row may have: null, NaN and infinities, wrong keys and statuses."""
    yield from _null_values(table, ("id", "status", "dialog", "start", "flags", "labels"))
    pairs = zip(table.column("key").to_pylist(), table.column("id").to_pylist(), strict=True)
    yield from _first_problem(
        np.array([sample_key(id_ or "") != key for key, id_ in pairs]), "the key is not that of the id"
    )
    unknown = ~_flags(pc.is_in(table["status"], pa.array(STATUSES)))
    yield from _first_problem(unknown, f"the status is none of {', '.join(STATUSES)}")
    for name in ("start", "end", "flags", "labels"):
        column = table.column(name).combine_chunks()
        if _is_bad(column):
            row = next(number for number in range(len(column)) if _is_bad(column.slice(number, 1)))
            yield Problem(f"{name} holds NaN, an infinity, or null in a list", row)


def _is_bad(array: pa.Array) -> bool:
    """Whether an array contains NaN or an infinity, at any depth, or null in a list of anything but numbers."""
    if pa.types.is_floating(array.type):
        return not pc.all(pc.is_finite(array.drop_null()), min_count=0).as_py()
    if pa.types.is_list(array.type):
        items = array.flatten()
        return bool(items.null_count and not pa.types.is_floating(items.type)) or _is_bad(items)
    return pa.types.is_struct(array.type) and any(map(_is_bad, array.flatten()))


def _position_problems(table: pa.Table, info: Mapping[str, Any]) -> Iterator[Problem]:
    """Find samples that do not follow each other, from the first byte of their shard to the end of the archive.

    So a manifest cannot have more samples than fit into its shards: each sample has four headers.
    """
    stems = [member_columns(extension)[0].removesuffix("offset") for extension in EXTENSIONS]
    columns = [column for extension in EXTENSIONS for column in member_columns(extension)]
    yield from _null_values(table, ("end", "shard", "n_samples", "n_faces", *columns))
    sizes = _shard_sizes(table, info["shards"])
    for stem in stems:
        yield from _outside_shard(table, stem, sizes)
    offset, size = (np.stack([_int_column(table, f"{stem}{what}") for stem in stems]) for what in ("offset", "size"))
    stop = offset + size + -size % BLOCK
    yield from _first_problem((offset[1:] != stop[:-1] + BLOCK).any(0), "its members do not follow each other")
    crop = 3 * info["recipe"]["face_size"] ** 2
    for name, data, unit in (
        ("n_faces", size[0] - NPY_HEADER_SIZE, crop),
        ("n_samples", size[-1] - WAV_HEADER_SIZE, 2),
    ):
        recorded = _int_column(table, name)
        yield from _first_problem(
            (data < 0) | (data % unit != 0) | (data // unit != recorded), f"{name} is not what its member holds"
        )
    start, end = offset[0] - BLOCK, stop[-1]
    _, shard = np.unique(table.column("shard").to_pylist(), return_inverse=True)
    order = np.lexsort((start, shard))
    first = np.diff(shard[order], prepend=-1) != 0
    last = np.roll(first, -1)
    before = np.where(first, 0, np.roll(end[order], 1))
    archive = -(-(end + 2 * BLOCK) // RECORD) * RECORD
    is_wrong = np.zeros(len(order), bool)
    is_wrong[order] = (start[order] != before) | (last & (archive[order] != sizes[order]))
    yield from _first_problem(
        is_wrong, "it does not lie where the sample before it ends, or its shard does not end as it should"
    )


def _null_values(table: pa.Table, names: tuple[str, ...]) -> Iterator[Problem]:
    for name in names:
        yield from _first_problem(_flags(table.column(name).is_null()), f"{name} is null")


def _outside_shard(table: pa.Table, stem: str, sizes: Ints) -> Iterator[Problem]:
    offset, size = _int_column(table, f"{stem}offset"), _int_column(table, f"{stem}size")
    inside = (offset >= BLOCK) & (size >= 0) & (offset <= sizes)
    inside[inside] = size[inside] <= (sizes - offset)[inside]  # not offset + size, which may overflow 64 bits
    yield from _first_problem(
        ~inside, f"{stem}offset and {stem}size lie outside its shard, or dataset.json has no such shard"
    )


def _shard_sizes(table: pa.Table, files: Mapping[str, dict[str, Any]]) -> Ints:
    """The size of each row's shard, -1 if dataset.json does not name it."""
    sizes = {name: facts["size"] for name, facts in files.items()}
    return np.array([sizes.get(name, -1) for name in table.column("shard").to_pylist()], np.int64)


def _first_problem(is_wrong: Flags, text: str) -> Iterator[Problem]:
    if is_wrong.any():
        yield Problem(text, int(is_wrong.argmax()))


def _flags(column: pa.ChunkedArray) -> Flags:
    return np.asarray(column.fill_null(False).to_numpy(), bool)


def _int_column(table: pa.Table, name: str) -> Ints:
    return np.asarray(table.column(name).fill_null(0).to_numpy(), np.int64)

"""What dataset.json and the tables claim, held against the format and against each other before anything is read by it.

A dataset comes from elsewhere. Whatever it says of a size, a place or a number of rows is compared with what there is
before memory is taken for it, and what readers rely on (which keys there are, where each lies) is checked once, here.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mesm_data.dataset.manifest import member_columns
from mesm_data.dataset.members import EXTENSIONS, NPY_DATA
from mesm_data.dataset.tar import BLOCK, RECORD, check_key
from mesm_data.errors import InputError
from mesm_data.media.wav import WAV_DATA
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.schema.recordings import sample_key

STATUSES = ("ok", "failed", "excluded")
_SIZES = {"face_size": 4096, "sample_rate": 2**20}  # of the recipe: at most
_INTERVAL = re.compile(r"(?=.*[1-9])[0-9]{1,4}(\.[0-9]{1,9})?")  # above 0
_SHARD = re.compile(r"[A-Za-z0-9_-]{1,200}\.tar")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS = {
    "corpus": str, "synthetic": bool, "counts": dict, "manifest": dict, "shards": dict, "video": dict, "notes": list,
    "recipe": dict, "root": str, "schema": dict,
}  # fmt: skip

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
Problem = tuple[str, int]  # what is wrong, and the first row with it


def check_description(path: Path, said: Mapping[str, Any]) -> None:
    """Raises InputError if `said`, the content of dataset.json at `path`, is not what readers rely on."""
    for problem in _description(said):
        raise InputError(f"{path}: {problem}. No build writes that: get the file again")


def check_manifest(path: Path, table: pa.Table, said: Mapping[str, Any]) -> None:
    """Raises InputError, naming the row, if the manifest at `path` does not fit the format or dataset.json (`said`)."""
    if len(table) != said["manifest"]["rows"]:
        raise InputError(f"{path} has {len(table)} rows, dataset.json says {said['manifest']['rows']}: get both again")
    keys = _keys(path, table)
    for what, row in _values(table):
        raise InputError(f"{path}: {keys[row]}: {what}. No build writes that: get the file again")
    rows = np.flatnonzero(_flags(pc.equal(table["status"], "ok")))
    built = table.take(pa.array(rows))
    for what, row in _samples(built, said):
        raise InputError(f"{path}: {keys[rows[row]]}: {what}. No build writes that: get it and dataset.json again")
    there = Counter(built.column("shard").to_pylist())
    for name, facts in said["shards"].items():
        if there[name] != facts["samples"]:
            raise InputError(
                f"{path} has {there[name]} samples in {name}, dataset.json says {facts['samples']}: get both again"
            )


def check_clips(path: Path, table: pa.Table, said: Mapping[str, Any]) -> None:
    """Raises InputError, naming the row, if the index of clips at `path` does not fit dataset.json (`said`)."""
    keys = _keys(path, table)
    sizes = _shard_sizes(table, said["video"])
    for what, row in (*_absent(table, ("shard", "offset", "size", "sha256")), *_outside(table, "", sizes)):
        raise InputError(f"{path}: {keys[row]}: {what}. No build writes that: get it and dataset.json again")


def _description(said: Mapping[str, Any]) -> Iterator[str]:
    for name, kind in _FIELDS.items():
        if type(said.get(name)) is not kind:
            yield f"{name!r} is missing, or is not of type {kind.__name__}"
    if not isinstance(said["schema"], dict) or said["schema"].get("name") != said["corpus"]:
        yield f"'schema' is not that of the corpus {said['corpus']!r:.80}"
    try:
        CorpusSchema.parse(said["schema"], "schema")
    except InputError as error:
        yield str(error)
    if not all(isinstance(note, str) for note in said["notes"]):
        yield "'notes' are not sentences"
    for name, most in _SIZES.items():
        if not _is_count(said["recipe"].get(name), most) or not said["recipe"][name]:
            yield f"the recipe's {name!r} is not a number from 1 to {most}"
    interval = said["recipe"].get("frame_interval")
    if not isinstance(interval, str) or not _INTERVAL.fullmatch(interval):
        yield "the recipe's 'frame_interval' is not a number of seconds"
    if not all(_is_count(said["counts"].get(name)) for name in ("total", *STATUSES)):
        yield "'counts' are not numbers of utterances by status"
    if not _is_count(said["manifest"].get("rows")) or not _is_digest(said["manifest"].get("sha256")):
        yield "'manifest' is not a number of rows and a sha256"
    if not _is_digest(said["root"]):
        yield "'root' is not a sha256"
    for folder in ("shards", "video"):
        for name, facts in said[folder].items():
            if not _SHARD.fullmatch(name):
                yield f"{folder!r} names a file {name!r}, which is not the name of a shard"
            told = facts if isinstance(facts, dict) else {}
            if not _is_digest(told.get("sha256")) or not all(_is_count(told.get(n)) for n in ("size", "samples")):
                yield f"{folder!r} does not say the size, samples and sha256 of {name}"


def _is_count(value: object, most: int = 2**50) -> bool:
    return type(value) is int and 0 <= value <= most


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and bool(_SHA256.fullmatch(value))


def _keys(path: Path, table: pa.Table) -> list[str]:
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


def _values(table: pa.Table) -> Iterator[Problem]:
    """Values that no row may have: absent ones, and numbers that are none."""
    yield from _absent(table, ("id", "status", "dialog", "start", "flags", "labels"))
    pairs = zip(table.column("key").to_pylist(), table.column("id").to_pylist(), strict=True)
    yield from _first(np.array([sample_key(id_ or "") != key for key, id_ in pairs]), "the key is not that of the id")
    unknown = ~_flags(pc.is_in(table["status"], pa.array(STATUSES)))
    yield from _first(unknown, f"the status is none of {', '.join(STATUSES)}")
    for name in ("start", "end", "flags", "labels"):
        column = table.column(name).combine_chunks()
        if _is_bad(column):
            row = next(number for number in range(len(column)) if _is_bad(column.slice(number, 1)))
            yield f"{name} holds NaN, an infinity, or null in a list", row


def _is_bad(array: pa.Array) -> bool:
    """Whether NaN or an infinity is in it, at any depth, or null in a list of anything but numbers."""
    if pa.types.is_floating(array.type):
        return not pc.all(pc.is_finite(array.drop_null()), min_count=0).as_py()
    if pa.types.is_list(array.type):
        items = array.flatten()
        return bool(items.null_count and not pa.types.is_floating(items.type)) or _is_bad(items)
    return pa.types.is_struct(array.type) and any(map(_is_bad, array.flatten()))


def _samples(table: pa.Table, said: Mapping[str, Any]) -> Iterator[Problem]:
    """Samples must lie one behind the other, from the first byte of their shard to the end of the archive.

    So a manifest has no more samples than its shards have room for: each has four headers.
    """
    stems = [member_columns(extension)[0].removesuffix("offset") for extension in EXTENSIONS]
    columns = [column for extension in EXTENSIONS for column in member_columns(extension)]
    yield from _absent(table, ("end", "shard", "n_samples", "n_faces", *columns))
    sizes = _shard_sizes(table, said["shards"])
    for stem in stems:
        yield from _outside(table, stem, sizes)
    offset, size = (np.stack([_numbers(table, f"{stem}{what}") for stem in stems]) for what in ("offset", "size"))
    stop = offset + size + -size % BLOCK
    yield from _first((offset[1:] != stop[:-1] + BLOCK).any(0), "its members do not follow each other")
    crop = 3 * said["recipe"]["face_size"] ** 2
    for name, data, unit in (("n_faces", size[0] - NPY_DATA, crop), ("n_samples", size[-1] - WAV_DATA, 2)):
        told = _numbers(table, name)
        yield from _first(
            (data < 0) | (data % unit != 0) | (data // unit != told), f"{name} is not what its member holds"
        )
    start, end = offset[0] - BLOCK, stop[-1]
    _, shard = np.unique(table.column("shard").to_pylist(), return_inverse=True)
    order = np.lexsort((start, shard))
    first = np.diff(shard[order], prepend=-1) != 0
    last = np.roll(first, -1)
    before = np.where(first, 0, np.roll(end[order], 1))
    archive = -(-(end + 2 * BLOCK) // RECORD) * RECORD
    wrong = np.zeros(len(order), bool)
    wrong[order] = (start[order] != before) | (last & (archive[order] != sizes[order]))
    yield from _first(wrong, "it does not lie where the sample before it ends, or its shard does not end as it should")


def _absent(table: pa.Table, names: tuple[str, ...]) -> Iterator[Problem]:
    for name in names:
        yield from _first(_flags(table.column(name).is_null()), f"{name} is null")


def _outside(table: pa.Table, stem: str, sizes: Ints) -> Iterator[Problem]:
    offset, size = _numbers(table, f"{stem}offset"), _numbers(table, f"{stem}size")
    inside = (offset >= BLOCK) & (size >= 0) & (offset <= sizes)
    inside[inside] = size[inside] <= (sizes - offset)[inside]  # not offset + size, which may be more than 64 bits hold
    yield from _first(~inside, f"{stem}offset and {stem}size lie outside its shard, or dataset.json has no such shard")


def _shard_sizes(table: pa.Table, files: Mapping[str, dict[str, Any]]) -> Ints:
    """The size of each row's shard, -1 where dataset.json does not name it."""
    known = {name: facts["size"] for name, facts in files.items()}
    return np.array([known.get(name, -1) for name in table.column("shard").to_pylist()], np.int64)


def _first(rows: Flags, what: str) -> Iterator[Problem]:
    if rows.any():
        yield what, int(rows.argmax())


def _flags(column: pa.ChunkedArray) -> Flags:
    return np.asarray(column.fill_null(False).to_numpy(), bool)


def _numbers(table: pa.Table, name: str) -> Ints:
    return np.asarray(table.column(name).fill_null(0).to_numpy(), np.int64)

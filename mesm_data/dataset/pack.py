"""Parts -> shards. Order and boundaries come from groups, keys and sizes alone, never from workers."""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from mesm_data.dataset.manifest import member_columns
from mesm_data.dataset.parts import DamagedPart
from mesm_data.dataset.tar import BLOCK, padded_size, tar_end, tar_header
from mesm_data.storage.files import atomic_write

Members = dict[str, tuple[int, str]]  # extension -> bytes, sha256; in the order in which they stand in a tar


def shard_order_key(key: str) -> bytes:
    """Samples are sorted by this: speakers and dialogs are mixed for those who read a shard from front to back."""
    return sha256(key.encode()).digest()


def split_into_shards(sizes: Sequence[tuple[str, int]], limit: int) -> Iterator[list[str]]:
    """Cut (key, bytes) pairs, in their order, into shards of at most `limit` bytes (a larger sample stands alone)."""
    shard: list[str] = []
    total = 0
    for key, size in sizes:
        if shard and total + size > limit:
            yield shard
            shard, total = [], 0
        shard.append(key)
        total += size
    if shard:
        yield shard


def assign_shards(rows: list[dict[str, Any]], limit: int) -> dict[str, list[dict[str, Any]]]:
    """The built `rows` by the name of the shard they go into, `<group>-000000.tar`, both in the order of writing."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in sorted((row for row in rows if row["status"] == "ok"), key=lambda row: shard_order_key(row["key"])):
        groups.setdefault(row["group"], []).append(row)
    named = {}
    for group, built in sorted(groups.items()):
        by_key = {row["key"]: row for row in built}
        sizes = [(row["key"], row["part"]["stop"] - row["part"]["start"]) for row in built]
        for number, keys in enumerate(split_into_shards(sizes, limit)):
            named[f"{group}-{number:06d}.tar"] = [by_key[key] for key in keys]
    return named


def pack_parts(
    parts: Path, out: Path, rows: list[dict[str, Any]], *, limit: int, step: Callable[[int], object]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write shards/ and video/ from the parts of the built `rows`, whose `shard` and member columns are filled in.

    Rows carry `group`; `source` (the recording's id), `part` and `clip` as the step left them. Returns what
    dataset.json says of each file: {name: {sha256, size, samples}} for shards/ and for video/. `step` is called with
    the number of samples that each shard adds. Raises DamagedPart if a part does not hold what its rows say.
    """
    models, videos = {}, {}
    for name, samples in assign_shards(rows, limit).items():
        models[name] = _write_shard(out / "shards" / name, parts, samples)
        if all("clip" in row for row in samples):
            videos[name] = _write_clips(out / "video" / name, parts, samples)
        step(len(samples))
    return models, videos


def _write_shard(path: Path, parts: Path, samples: list[dict[str, Any]]) -> dict[str, Any]:
    with atomic_write(path) as file:
        shard = _Shard(file)
        for row in samples:
            members = {
                extension: (row["members"][extension]["size"], row["members"][extension]["sha256"])
                for extension in sorted(row["members"])
            }
            moved = shard.copy(parts, f"{row['source']}.tar", row["part"]["start"], row, members)
            row["shard"] = path.name
            for extension, member in row["members"].items():
                values = (member["offset"] + moved, member["size"], member["sha256"])
                row.update(zip(member_columns(extension), values, strict=True))
        return shard.finish(len(samples))


def _write_clips(path: Path, parts: Path, samples: list[dict[str, Any]]) -> dict[str, Any]:
    with atomic_write(path) as file:
        shard = _Shard(file)
        for row in samples:
            clip = row["clip"]
            members = {"mp4": (clip["size"], clip["sha256"])}
            moved = shard.copy(parts, f"{row['source']}.clips.tar", clip["start"], row, members)
            clip["offset"] = moved + clip["start"] + BLOCK
        return shard.finish(len(samples))


def _holds(data: bytes, key: str, members: Members) -> bool:
    """Whether `data` are these members of a sample as tar blocks, byte for byte."""
    view, at = memoryview(data), 0
    for extension, (size, digest) in members.items():
        start, stop, at = at + BLOCK, at + BLOCK + size, at + BLOCK + padded_size(size)
        if view[start - BLOCK : start] != tar_header(f"{key}.{extension}", size) or any(view[stop:at]):
            return False
        if sha256(view[start:stop]).hexdigest() != digest:
            return False
    return at == len(data)


class _Shard:
    """A tar that is put together from blocks of other tars."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._size, self._digest = file, 0, sha256()

    def copy(self, parts: Path, name: str, start: int, row: dict[str, Any], members: Members) -> int:
        """Append the `members` of a row's sample, which stand one after the other in the part's file from `start`.

        Returns how far they moved. Raises DamagedPart if they are not what the row says.
        """
        moved = self._size - start
        try:
            with (parts / name).open("rb") as file:
                file.seek(start)
                data = file.read(sum(BLOCK + padded_size(size) for size, _ in members.values()))
        except FileNotFoundError:
            raise DamagedPart(parts, row["source"]) from None
        if not _holds(data, row["key"], members):
            raise DamagedPart(parts, row["source"])
        self._append(data)
        return moved

    def finish(self, samples: int) -> dict[str, Any]:
        self._append(tar_end(self._size))
        return {"sha256": self._digest.hexdigest(), "size": self._size, "samples": samples}

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._size += len(data)

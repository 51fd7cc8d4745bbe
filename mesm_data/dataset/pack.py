"""Pack parts into shards. Order and boundaries depend on groups, keys and sizes only, not on workers.

`webdataset.TarWriter` writes the shards. Its output is identical to that of `SampleWriter`, which writes the parts: the
workers do not use webdataset, because importing it loads torch (230 MB and 1.4 s of CPU per worker).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from mesm_data.dataset.manifest import member_columns
from mesm_data.dataset.parts import DamagedPart
from mesm_data.dataset.tar import BLOCK, padded_size, tar_header
from mesm_data.storage.files import atomic_write
from mesm_data.storage.progress import Step


def shard_order_key(key: str) -> bytes:
    """Samples are sorted by this, which mixes speakers and dialogs for readers that read a shard from start to end."""
    return sha256(key.encode()).digest()


def split_into_shards(sizes: Sequence[tuple[str, int]], limit: int) -> Iterator[list[str]]:
    """Divide (key, bytes) pairs, in their order, into shards of at most `limit` bytes. A larger sample has its own."""
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
    """The built `rows` by the name of their shard, `<group>-000000.tar`, both in the order of writing."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in sorted((row for row in rows if row["status"] == "ok"), key=lambda row: shard_order_key(row["key"])):
        groups.setdefault(row["group"], []).append(row)
    shards = {}
    for group, built in sorted(groups.items()):
        by_key = {row["key"]: row for row in built}
        sizes = [(row["key"], row["part"]["stop"] - row["part"]["start"]) for row in built]
        for number, keys in enumerate(split_into_shards(sizes, limit)):
            shards[f"{group}-{number:06d}.tar"] = [by_key[key] for key in keys]
    return shards


def pack_parts(
    parts: Path, out: Path, rows: list[dict[str, Any]], *, limit: int, step: Step
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write shards/ and video/ from parts, and add the shard and the member columns to the rows.

    Args:
        parts: The folder of the parts.
        out: The folder of the dataset.
        rows: The rows of the parts, with `group` and `source`, the name of the part.
        limit: The bytes of a shard.
        step: Is called with the number of samples in each shard that is done.

    Returns:
        The entries of dataset.json for the files of shards/ and of video/: {name: {sha256, size, samples}}.

    Raises:
        DamagedPart: A part is not what its rows say.
    """
    shards, videos = {}, {}
    for name, samples in assign_shards(rows, limit).items():
        shards[name] = _write_shard(out / "shards" / name, parts, samples)
        if all("clip" in row for row in samples):
            videos[name] = _write_clips(out / "video" / name, parts, samples)
        step(len(samples))
    return shards, videos


def _write_shard(path: Path, parts: Path, samples: list[dict[str, Any]]) -> dict[str, Any]:
    with _open_shard(path) as shard:
        for row in samples:
            members = row["members"]
            offsets = shard.add(row["key"], read_members(parts, f"{row['source']}.tar", row, members))
            row["shard"] = path.name
            for extension, member in members.items():
                values = (offsets[extension], member["size"], member["sha256"])
                row.update(zip(member_columns(extension), values, strict=True))
    return shard.entry(len(samples))


def _write_clips(path: Path, parts: Path, samples: list[dict[str, Any]]) -> dict[str, Any]:
    with _open_shard(path) as shard:
        for row in samples:
            clip = row["clip"]
            members = {"mp4": {**clip, "offset": clip["start"] + BLOCK}}
            offsets = shard.add(row["key"], read_members(parts, f"{row['source']}.clips.tar", row, members))
            clip["offset"] = offsets["mp4"]
    return shard.entry(len(samples))


def read_members(
    parts: Path, name: str, row: Mapping[str, Any], members: Mapping[str, Mapping[str, Any]]
) -> dict[str, bytes]:
    """Read members of a sample from a file of a part. Raises DamagedPart if a byte differs from what was written."""
    data = {}
    try:
        with (parts / name).open("rb") as file:
            for extension, member in members.items():
                size = member["size"]
                file.seek(member["offset"] - BLOCK)
                blocks = file.read(BLOCK + padded_size(size))
                header, content, padding = blocks[:BLOCK], blocks[BLOCK : BLOCK + size], blocks[BLOCK + size :]
                is_sound = header == tar_header(f"{row['key']}.{extension}", size) and not any(padding)
                if not is_sound or sha256(content).hexdigest() != member["sha256"]:
                    raise DamagedPart(parts, row["source"])
                data[extension] = content
    except FileNotFoundError:
        raise DamagedPart(parts, row["source"]) from None
    return data


class _Shard:
    """Writes a tar file and computes its digest and the offsets of its members."""

    def __init__(self, file: IO[bytes]) -> None:
        from webdataset import TarWriter

        self._file, self._size, self._digest, self._position = file, 0, sha256(), 0
        self._writer = TarWriter(self, user="", group="", mode=0o644, mtime=0, encoder=False, compress=False)

    def add(self, key: str, members: Mapping[str, bytes]) -> dict[str, int]:
        """Append a sample. Returns the offset of each member's data from the start of the file."""
        offsets = {}
        for extension in sorted(members):  # TarWriter's order
            offsets[extension] = self._position + BLOCK
            self._position += BLOCK + padded_size(len(members[extension]))
        self._writer.write({"__key__": key, **members})
        return offsets

    def write(self, data: bytes) -> int:
        """Write a piece of the tar file; TarWriter calls this."""
        self._digest.update(data)
        self._size += len(data)
        return self._file.write(data)

    def close(self) -> None:
        """Write the end of the tar file."""
        self._writer.close()

    def entry(self, samples: int) -> dict[str, Any]:
        """The entry of dataset.json for this file, after it is closed."""
        return {"sha256": self._digest.hexdigest(), "size": self._size, "samples": samples}


@contextmanager
def _open_shard(path: Path) -> Iterator[_Shard]:
    with atomic_write(path) as file:
        shard = _Shard(file)
        try:
            yield shard
        finally:  # also after an error: the tar stream must not write when it is collected
            shard.close()

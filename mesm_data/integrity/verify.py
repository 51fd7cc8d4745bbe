"""Does the dataset on disk hold exactly what its manifest says? Every byte of every shard is accounted for."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from mesm_data.dataset.dataset_dir import dataset_root, read_clip_index, read_dataset_info, read_manifest_rows
from mesm_data.dataset.manifest import member_columns, rows_digest
from mesm_data.dataset.members import EXTENSIONS
from mesm_data.dataset.tar import BLOCK, padded_size, tar_end, tar_header
from mesm_data.dataset.validation import STATUSES
from mesm_data.storage.files import open_regular_file

Member = tuple[str, int, int, str]  # name, offset, size, sha256


def verify(path: Path, progress: Callable[[int], object] | None = None, *, clips: bool = True) -> Iterator[str]:
    """Yield one sentence per difference, in shard order; no sentence means that every byte is as recorded.

    `progress` is called with the bytes read. Without `clips` the files of video/ are not looked at. Raises InputError
    if `path` is not a dataset that can be read.
    """
    said = read_dataset_info(path)
    rows = read_manifest_rows(path, said)
    table = rows_digest(rows)
    if table != said["manifest"]["sha256"]:
        yield f"manifest.parquet: the table has sha256 {table}, dataset.json says {said['manifest']['sha256']}"
    if dataset_root(said["manifest"]["sha256"], said["shards"]) != said["root"]:
        yield "dataset.json: the root is not that of the manifest and shards that it lists"
    yield from _counts(said, rows)
    built = [row for row in rows if row["status"] == "ok"]
    models = {row["key"]: (row["shard"], _model_members(row)) for row in built}
    yield from _folder(path / "shards", said["shards"], models, progress)
    if said["video"] and clips:
        videos = {row["key"]: (row["shard"], [_clip_member(row)]) for row in read_clip_index(path, said)}
        if set(videos) != set(models):
            yield f"video/index.parquet: {len(videos)} clips for {len(models)} samples"
        yield from _folder(path / "video", said["video"], videos, progress)


def _counts(said: dict[str, Any], rows: list[dict[str, Any]]) -> Iterator[str]:
    found = {name: sum(row["status"] == name for row in rows) for name in STATUSES} | {"total": len(rows)}
    for name, number in found.items():
        if said["counts"].get(name) != number:
            yield f"dataset.json: counts {said['counts'].get(name)} utterances as {name}, manifest.parquet has {number}"


def _model_members(row: dict[str, Any]) -> list[Member]:
    members = []
    for extension in EXTENSIONS:
        offset, size, digest = (row[column] for column in member_columns(extension))
        members.append((f"{row['key']}.{extension}", offset, size, digest))
    return members


def _clip_member(row: dict[str, Any]) -> Member:
    return f"{row['key']}.mp4", row["offset"], row["size"], row["sha256"]


def _folder(
    folder: Path,
    files: dict[str, dict[str, Any]],
    samples: dict[str, tuple[str, list[Member]]],
    progress: Callable[[int], object] | None,
) -> Iterator[str]:
    """All shards of one folder against the members that should lie in them."""
    by_shard: dict[str, list[tuple[str, list[Member]]]] = defaultdict(list)
    for key, (shard, members) in samples.items():
        by_shard[shard].append((key, members))
    for name in sorted(set(by_shard) - set(files)):
        yield f"{folder.name}/{name}: is named by the samples and not by dataset.json"
    for path in sorted(folder.glob("*.tar")):
        if path.name not in files:
            yield f"{folder.name}/{path.name}: is not part of this dataset"
    for name, facts in sorted(files.items()):
        expected = sorted(by_shard[name], key=lambda sample: sample[1][0][1])
        try:
            with open_regular_file(folder / name) as file:
                yield from verify_shard(f"{folder.name}/{name}", file, expected, facts, progress)
        except OSError as error:
            yield f"{folder.name}/{name}: cannot be read ({error.strerror})"


def verify_shard(
    name: str,
    file: IO[bytes],
    samples: list[tuple[str, list[Member]]],
    facts: dict[str, Any],
    progress: Callable[[int], object] | None,
) -> Iterator[str]:
    """Read one shard from front to back: each sample's blocks, then the end of the archive."""
    whole = sha256()

    def read(size: int) -> bytes:
        data = file.read(size)
        whole.update(data)
        if progress:
            progress(len(data))
        return data

    position, there = 0, file.seek(0, 2)
    file.seek(0)
    for key, members in samples:
        problem = None
        for member, offset, size, digest in members:
            if offset != position + BLOCK:
                yield f"{name}: sample {key}: {member} is said to stand at byte {offset}, not at {position + BLOCK}"
                return
            if position + BLOCK + padded_size(size) > there:  # not read by a size that is only claimed
                yield f"{name}: sample {key}: {member}: the shard ends inside it"
                return
            head, data = read(BLOCK), read(padded_size(size))
            if problem is None:
                problem = _member(member, head, data, size, digest)
            position = offset + padded_size(size)
        if problem:
            yield f"{name}: sample {key}: {problem}"
    rest = tar_end(position)
    if there != position + len(rest) or read(len(rest)) != rest:
        yield f"{name}: what follows the last sample is not the end of the archive"
    if whole.hexdigest() != facts["sha256"]:
        yield f"{name}: sha256 is {whole.hexdigest()}, dataset.json says {facts['sha256']}"


def _member(name: str, head: bytes, data: bytes, size: int, digest: str) -> str | None:
    """What is wrong with one member, in words."""
    if head != tar_header(name, size):
        return f"{name}: its tar header is not the canonical one (another name, size, time or owner)"
    found = sha256(data[:size]).hexdigest()
    if found != digest:
        return f"{name}: sha256 is {found}, the manifest says {digest}"
    if any(data[size:]):
        return f"{name}: the padding behind it is not empty"
    return None

"""Compares a dataset on disk with its manifest. Every byte of every shard is accounted for."""

from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, NamedTuple

from mesm_data.dataset.dataset_dir import dataset_root, read_clip_index, read_dataset_info, read_manifest_rows
from mesm_data.dataset.info import STATUSES
from mesm_data.dataset.manifest import member_columns, rows_digest
from mesm_data.dataset.members import EXTENSIONS
from mesm_data.dataset.tar import BLOCK, padded_size, tar_end, tar_header
from mesm_data.storage.files import open_regular_file
from mesm_data.storage.progress import Step, no_step


class Member(NamedTuple):
    """A member of a shard as the manifest describes it."""

    name: str
    offset: int
    size: int
    sha256: str


class ShardMembers(NamedTuple):
    """The members of one sample, in the order in which they lie in the shard."""

    key: str
    shard: str
    members: list[Member]


def verify(path: Path, step: Step = no_step, *, clips: bool = True) -> Iterator[str]:
    """Yield one sentence per difference, in the order of the shards; nothing if every byte is as recorded.

    Args:
        path: The folder of a dataset.
        step: Called with the number of bytes read.
        clips: Also verify the files in video/.

    Raises:
        InputError: `path` is not a dataset that can be read.
    """
    info = read_dataset_info(path)
    rows = read_manifest_rows(path, info)
    digest = rows_digest(rows)
    if digest != info["manifest"]["sha256"]:
        yield f"manifest.parquet: the table has sha256 {digest}, dataset.json says {info['manifest']['sha256']}"
    if dataset_root(info["manifest"]["sha256"], info["shards"]) != info["root"]:
        yield "dataset.json: the root is not that of the manifest and shards that it lists"
    yield from _count_differences(info, rows)
    built = [row for row in rows if row["status"] == "ok"]
    samples = [ShardMembers(row["key"], row["shard"], _members(row)) for row in built]
    yield from _folder_differences(path / "shards", info["shards"], samples, step)
    if info["video"] and clips:
        videos = [ShardMembers(row["key"], row["shard"], [_clip_member(row)]) for row in read_clip_index(path, info)]
        if {video.key for video in videos} != {sample.key for sample in samples}:
            yield f"video/index.parquet: {len(videos)} clips for {len(samples)} samples"
        yield from _folder_differences(path / "video", info["video"], videos, step)


def _count_differences(info: dict[str, Any], rows: list[dict[str, Any]]) -> Iterator[str]:
    counts = {name: sum(row["status"] == name for row in rows) for name in STATUSES} | {"total": len(rows)}
    for name, count in counts.items():
        if info["counts"].get(name) != count:
            yield f"dataset.json: counts {info['counts'].get(name)} utterances as {name}, manifest.parquet has {count}"


def _members(row: dict[str, Any]) -> list[Member]:
    return [
        Member(f"{row['key']}.{extension}", *(row[column] for column in member_columns(extension)))
        for extension in EXTENSIONS
    ]


def _clip_member(row: dict[str, Any]) -> Member:
    return Member(f"{row['key']}.mp4", row["offset"], row["size"], row["sha256"])


def _folder_differences(
    folder: Path,
    files: dict[str, dict[str, Any]],
    samples: list[ShardMembers],
    step: Step,
) -> Iterator[str]:
    """Compare all shards of a folder.

    Args:
        folder: The folder of the shards or of the clips.
        files: The entries of dataset.json by the name of the shard.
        samples: The samples that the shards should contain.
        step: Called with the number of bytes read.
    """
    by_shard: dict[str, list[ShardMembers]] = defaultdict(list)
    for sample in samples:
        by_shard[sample.shard].append(sample)
    for name in sorted(set(by_shard) - set(files)):
        yield f"{folder.name}/{name}: is named by the samples and not by dataset.json"
    for path in sorted(folder.glob("*.tar")):
        if path.name not in files:
            yield f"{folder.name}/{path.name}: is not part of this dataset"
    for name, entry in sorted(files.items()):
        expected = sorted(by_shard[name], key=lambda sample: sample.members[0].offset)
        try:
            with open_regular_file(folder / name) as file:
                yield from verify_shard(f"{folder.name}/{name}", file, expected, entry["sha256"], step)
        except OSError as error:
            yield f"{folder.name}/{name}: cannot be read ({error.strerror})"


def verify_shard(
    name: str,
    file: IO[bytes],
    samples: list[ShardMembers],
    digest: str,
    step: Step,
) -> Iterator[str]:
    """Read one shard from front to back, and compare the blocks of each sample, the end of the archive, its digest."""
    shard_hash = sha256()

    def read(size: int) -> bytes:
        data = file.read(size)
        shard_hash.update(data)
        step(len(data))
        return data

    position, shard_size = 0, file.seek(0, 2)
    file.seek(0)
    for sample in samples:
        problem = None
        for member in sample.members:
            if member.offset != position + BLOCK:
                yield (
                    f"{name}: sample {sample.key}: {member.name} is recorded at byte {member.offset}, "
                    f"expected {position + BLOCK}"
                )
                return
            if position + BLOCK + padded_size(member.size) > shard_size:  # checked first: the size may be any number
                yield f"{name}: sample {sample.key}: {member.name}: the shard ends inside it"
                return
            head, data = read(BLOCK), read(padded_size(member.size))
            if problem is None:
                problem = _member_problem(member, head, data)
            position = member.offset + padded_size(member.size)
        if problem:
            yield f"{name}: sample {sample.key}: {problem}"
    end_blocks = tar_end(position)
    if shard_size != position + len(end_blocks) or read(len(end_blocks)) != end_blocks:
        yield f"{name}: what follows the last sample is not the end of the archive"
    if shard_hash.hexdigest() != digest:
        yield f"{name}: sha256 is {shard_hash.hexdigest()}, recorded is {digest}"


def _member_problem(member: Member, head: bytes, data: bytes) -> str | None:
    """The problem of one member, of which the tar header and the padded data were read; None if there is none."""
    if head != tar_header(member.name, member.size):
        return f"{member.name}: its tar header is not the canonical one (another name, size, time or owner)"
    digest = sha256(data[: member.size]).hexdigest()
    if digest != member.sha256:
        return f"{member.name}: sha256 is {digest}, the manifest says {member.sha256}"
    if any(data[member.size :]):
        return f"{member.name}: the padding behind it is not empty"
    return None

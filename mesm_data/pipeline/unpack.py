"""Turn samples of a finished dataset back into parts, so that a build need not repeat them."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.dataset.dataset_dir import read_clip_index
from mesm_data.dataset.manifest import member_columns
from mesm_data.dataset.members import EXTENSIONS
from mesm_data.dataset.parts import finish_part, open_part_file
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.tar import SampleWriter
from mesm_data.errors import MesmError
from mesm_data.storage.files import open_regular_file

_DAMAGED = (MesmError, ValueError, OSError, LookupError, TypeError)  # the last two: a record without sources


class PartUnpacker:
    """Writes parts from the samples of a finished dataset, identical to those of the build. Checks every byte."""

    def __init__(self, path: Path) -> None:
        self._dataset = dataset = Dataset(path, check=True)
        self._clips: dict[str, dict[str, Any]] = {}
        if dataset.info["video"]:
            self._clips = {row["key"]: row for row in read_clip_index(dataset.path, dataset.info)}

    def write_part(
        self, parts: Path, name: str, keys: Iterable[str], accept: Callable[[dict[str, Any]], bool]
    ) -> list[str]:
        """Write a part. Damaged samples are left out; without any sample nothing is written.

        Args:
            parts: The folder of the parts.
            name: The name of the part.
            keys: The keys of the samples.
            accept: Returns whether to keep the sample with this record.

        Returns:
            The keys of the samples in the part.
        """
        rows = []
        with ExitStack() as stack:
            samples = clips = None
            for key in keys:
                try:
                    if not accept(self._dataset[key].record):
                        continue
                    clip = self._clip(key)
                    members = dict(zip(EXTENSIONS, map(bytes, self._dataset.members(key)), strict=True))
                except _DAMAGED:
                    continue
                if samples is None:
                    samples = stack.enter_context(open_part_file(parts, name, "tar"))
                    if clip is not None:
                        clips = stack.enter_context(open_part_file(parts, name, "clips.tar"))
                rows.append(part_row(self._dataset.rows[key], samples, members))
                if clips and clip is not None:
                    rows[-1]["clip"] = {"start": clips.size, "size": len(clip), "sha256": sha256(clip).hexdigest()}
                    clips.write(key, {"mp4": clip})
        self._dataset.prefetch(())  # unmaps the shards: the samples of a recording are spread over all of them
        if rows:
            finish_part(parts, name, rows)
        return [row["key"] for row in rows]

    def accepted_keys(self, keys: Iterable[str], accept: Callable[[dict[str, Any]], bool]) -> list[str]:
        """Select the samples whose record can be read and is accepted. The other members are not checked."""
        selected = []
        for key in keys:
            try:
                selected += [key] if accept(self._dataset[key].record) else []
            except _DAMAGED:
                continue
        self._dataset.prefetch(())
        return selected

    def _clip(self, key: str) -> bytes | None:
        """The bytes of a clip; None in a dataset without clips. Raises ValueError if they are damaged or missing."""
        if not self._dataset.info["video"]:
            return None
        row = self._clips.get(key)
        if row is None:
            raise ValueError(f"no clip of {key}")
        with open_regular_file(self._dataset.path / "video" / row["shard"]) as file:
            remaining = file.seek(0, 2) - row["offset"]
            if row["size"] > remaining:
                raise ValueError(f"the shard ends inside the clip of {key}")
            file.seek(row["offset"])
            data: bytes = file.read(row["size"])
        if sha256(data).hexdigest() != row["sha256"]:
            raise ValueError(f"the clip of {key} is damaged")
        return data


def part_row(row: dict[str, Any], samples: SampleWriter, members: dict[str, bytes]) -> dict[str, Any]:
    """Append a sample to a part. Returns its row as a build writes it, without the columns of the shard."""
    start, offsets = samples.size, samples.write(row["key"], members)
    shard_columns = {column for extension in EXTENSIONS for column in member_columns(extension)} | {"shard"}
    return {
        **{name: value for name, value in row.items() if name not in shard_columns},
        "members": {
            name: {"offset": offsets[name], "size": len(data), "sha256": sha256(data).hexdigest()}
            for name, data in members.items()
        },
        "part": {"start": start, "stop": samples.size},
    }

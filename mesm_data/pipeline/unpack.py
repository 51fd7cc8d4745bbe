"""Shards -> parts: the way back, for what need not be made again."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.dataset.dataset_dir import read_clip_index
from mesm_data.dataset.manifest import member_columns
from mesm_data.dataset.members import EXTENSIONS
from mesm_data.dataset.parts import finish_part
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.tar import SampleWriter
from mesm_data.errors import MesmError
from mesm_data.storage.files import atomic_write, open_regular_file

_DAMAGED = (MesmError, ValueError, OSError, LookupError, TypeError)  # also a record that names no sources


class PartUnpacker:
    """Writes parts of a finished dataset's samples, as the step would have left them. Every byte is checked."""

    def __init__(self, path: Path) -> None:
        self._dataset = dataset = Dataset(path, check=True)
        self._clips: dict[str, dict[str, Any]] = {}
        if dataset.info["video"]:
            self._clips = {row["key"]: row for row in read_clip_index(dataset.path, dataset.info)}

    def part(self, place: Path, keys: Iterable[str], keep: Callable[[dict[str, Any]], bool]) -> list[str]:
        """Write `place`.tar, .clips.tar and .json of the samples whose record `keep` wants; returns their keys.

        A sample that is not what the manifest says is left out, as lost. Where none is left, nothing is written.
        """
        rows = []
        with ExitStack() as stack:
            samples = clips = None
            for key in keys:
                try:
                    if not keep(self._dataset[key].record):
                        continue
                    clip = self._clip(key)
                    members = dict(zip(EXTENSIONS, map(bytes, self._dataset.members(key)), strict=True))
                except _DAMAGED:
                    continue
                if samples is None:
                    samples = _writer(stack, place.with_name(f"{place.name}.tar"))
                    clips = None if clip is None else _writer(stack, place.with_name(f"{place.name}.clips.tar"))
                rows.append(part_row(self._dataset.rows[key], samples, members))
                if clips and clip is not None:
                    rows[-1]["clip"] = {"start": clips.size, "size": len(clip), "sha256": sha256(clip).hexdigest()}
                    clips.write(key, {"mp4": clip})
        self._dataset.expect(())  # unmaps the shards: a recording's samples are spread over all of them
        if rows:
            finish_part(place.parent, place.name, rows)
        return [row["key"] for row in rows]

    def kept(self, keys: Iterable[str], keep: Callable[[dict[str, Any]], bool]) -> list[str]:
        """The keys of the samples whose record can be read and `keep` wants. The other members are not looked at."""
        found = []
        for key in keys:
            try:
                found += [key] if keep(self._dataset[key].record) else []
            except _DAMAGED:
                continue
        self._dataset.expect(())
        return found

    def _clip(self, key: str) -> bytes | None:
        """The bytes of a clip; None in a dataset without clips. ValueError if they are damaged or missing."""
        if not self._dataset.info["video"]:
            return None
        row = self._clips.get(key)
        if row is None:
            raise ValueError(f"no clip of {key}")
        with open_regular_file(self._dataset.path / "video" / row["shard"]) as file:
            room = file.seek(0, 2) - row["offset"]
            if row["size"] > room:
                raise ValueError(f"the shard ends inside the clip of {key}")
            file.seek(row["offset"])
            data: bytes = file.read(row["size"])
        if sha256(data).hexdigest() != row["sha256"]:
            raise ValueError(f"the clip of {key} is damaged")
        return data


def _writer(stack: ExitStack, path: Path) -> SampleWriter:
    return stack.enter_context(SampleWriter(stack.enter_context(atomic_write(path))))


def part_row(row: dict[str, Any], samples: SampleWriter, members: dict[str, bytes]) -> dict[str, Any]:
    """Append a sample; returns its manifest row as the step writes it, with `members` and `part` for its place."""
    start, offsets = samples.size, samples.write(row["key"], members)
    placed = {column for extension in EXTENSIONS for column in member_columns(extension)} | {"shard"}
    return {
        **{name: value for name, value in row.items() if name not in placed},
        "members": {
            name: {"offset": offsets[name], "size": len(data), "sha256": sha256(data).hexdigest()}
            for name, data in members.items()
        },
        "part": {"start": start, "stop": samples.size},
    }

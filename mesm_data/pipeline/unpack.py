"""Turn samples of a finished dataset back into parts, so that a build need not repeat them."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.dataset.dataset_dir import read_clip, read_clip_index
from mesm_data.dataset.manifest import member_columns
from mesm_data.dataset.members import EXTENSIONS
from mesm_data.dataset.parts import PartWriter, finish_part, open_part
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import MesmError

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
            part: PartWriter | None = None
            for key in keys:
                try:
                    if not accept(self._dataset[key].record):
                        continue
                    clip = self._clip(key)
                    members = dict(zip(EXTENSIONS, map(bytes, self._dataset.members(key)), strict=True))
                except _DAMAGED:
                    continue
                part = part or stack.enter_context(open_part(parts, name, clips=bool(self._dataset.info["video"])))
                rows.append({**without_places(self._dataset.rows[key]), **part.add(key, members, clip)})
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

    def _clip(self, key: str) -> bytes:
        """The bytes of a clip, b"" in a dataset without clips. Raises one of _DAMAGED if it cannot be had whole."""
        if not self._dataset.info["video"]:
            return b""
        row = self._clips[key]
        data = read_clip(self._dataset.path, row)
        if sha256(data).hexdigest() != row["sha256"]:
            raise ValueError(f"the clip of {key} is damaged")
        return data


def without_places(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a manifest without the columns that say where its sample lies, as a part has it."""
    places = {column for extension in EXTENSIONS for column in member_columns(extension)} | {"shard"}
    return {name: value for name, value in row.items() if name not in places}

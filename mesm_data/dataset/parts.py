"""Parts: the results of a build so far, in OUT/.build/parts. All bytes are checked before they are packed.

A part has three files: <name>.tar (samples), <name>.clips.tar (clips) and, written last, <name>.json: one row per
utterance and the sha256 of the rows. <name> is the id of the recording. If `retry` kept some of its utterances, the
others are in a second part, <id>.retry. A part whose files do not match each other counts as missing and is rebuilt.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.dataset.tar import BLOCK, SampleWriter, padded_size, tar_end
from mesm_data.errors import MesmError
from mesm_data.schema.recordings import Recording
from mesm_data.storage.files import atomic_write, open_regular_file
from mesm_data.storage.json_files import canonical_json, parse_json, write_compact_json

PartRows = list[dict[str, Any]]


class DamagedPart(MesmError):
    """The part `name` is not what was written."""

    def __init__(self, parts: Path, name: str) -> None:
        super().__init__(f"{parts / name}.tar is not what was written there: is the disk damaged?")
        self.name = name


class PartWriter:
    """Writes the samples of a part and, if the dataset has clips, a clip for each."""

    def __init__(self, samples: SampleWriter, clips: SampleWriter | None = None) -> None:
        self._samples, self._clips = samples, clips

    def add(self, key: str, members: Mapping[str, bytes], clip: bytes = b"") -> dict[str, Any]:
        """Append a sample and its clip, which may be empty. Returns what its row says of their bytes."""
        start, offsets = self._samples.size, self._samples.write(key, members)
        row: dict[str, Any] = {
            "members": {
                name: {"offset": offsets[name], "size": len(data), "sha256": sha256(data).hexdigest()}
                for name, data in members.items()
            },
            "part": {"start": start, "stop": self._samples.size},
        }
        if self._clips is not None:
            row["clip"] = {"start": self._clips.size, "size": len(clip), "sha256": sha256(clip).hexdigest()}
            self._clips.write(key, {"mp4": clip})
        return row


@contextmanager
def open_part(parts: Path, name: str, *, clips: bool) -> Iterator[PartWriter]:
    """Write the tar files of a part; they appear when they are complete. `finish_part` follows."""
    with ExitStack() as stack:

        def opened(suffix: str) -> SampleWriter:
            return stack.enter_context(SampleWriter(stack.enter_context(atomic_write(parts / f"{name}.{suffix}"))))

        yield PartWriter(opened("tar"), opened("clips.tar") if clips else None)


def finish_part(parts: Path, name: str, rows: PartRows) -> None:
    """Finish a part, whose other files are complete."""
    write_compact_json(parts / f"{name}.json", {"rows": rows, "sha256": _digest(rows)})


def read_part(parts: Path, name: str) -> PartRows | None:
    """The rows of a part; None if its files are damaged, truncated, or missing."""
    try:
        with open_regular_file(parts / f"{name}.json") as file:
            part = parse_json(file.read())
        rows: PartRows = part["rows"]
        if part["sha256"] != _digest(rows):
            return None
        sizes = {
            ".tar": max((row["part"]["stop"] for row in rows if "part" in row), default=None),
            ".clips.tar": max(map(_clip_stop, (row["clip"] for row in rows if "clip" in row)), default=None),
        }
        for suffix, size in sizes.items():
            if size is not None and (parts / f"{name}{suffix}").stat().st_size != size + len(tar_end(size)):
                return None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return rows


def completed_parts(recording: Recording, parts: Path) -> Iterator[tuple[str, PartRows]]:
    """Yield (name, rows) of the completed parts of a recording."""
    for name in (recording.id, _second_part(recording)):
        rows = read_part(parts, name)
        if rows is not None:
            yield name, rows


def read_part_record(parts: Path, name: str, row: dict[str, Any]) -> dict[str, Any]:
    """Read the JSON member of a sample in a part. Raises DamagedPart if it is not what was written."""
    member = row["members"]["json"]
    with open_regular_file(parts / f"{name}.tar") as file:
        file.seek(member["offset"])
        data = file.read(member["size"])
    if sha256(data).hexdigest() != member["sha256"]:
        raise DamagedPart(parts, name)
    record: dict[str, Any] = parse_json(data)
    return record


def remaining_work(recording: Recording, parts: Path) -> Recording | None:
    """The recording with the utterances that are still to be built; None if there are none.

    Its id is the name of their part.
    """
    done = {name: {row["key"] for row in rows} for name, rows in completed_parts(recording, parts)}
    first = done.get(recording.id)
    if first is None:
        delete_part(parts, _second_part(recording))
        return recording
    missing = tuple(utterance for utterance in recording.utterances if utterance.key not in first)
    if {utterance.key for utterance in missing} <= done.get(_second_part(recording), set()):
        return None
    return replace(recording, id=_second_part(recording), utterances=missing)


def delete_part(parts: Path, name: str) -> None:
    """Delete a part, the file of its rows first."""
    for suffix in (".json", ".tar", ".clips.tar"):
        (parts / f"{name}{suffix}").unlink(missing_ok=True)


def _second_part(recording: Recording) -> str:
    return f"{recording.id}.retry"


def _clip_stop(clip: dict[str, Any]) -> int:
    return int(clip["start"]) + BLOCK + padded_size(clip["size"])


def _digest(rows: Iterable[dict[str, Any]]) -> str:
    return sha256(canonical_json(list(rows))).hexdigest()

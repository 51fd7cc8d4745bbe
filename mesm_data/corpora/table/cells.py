"""Parsers of the cells of a table of utterances. Problems are collected, so that all are reported at once."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mesm_data.errors import InputError
from mesm_data.schema.labels import MISSING_CELLS
from mesm_data.schema.recordings import VideoRegion

if TYPE_CHECKING:
    from mesm_data.schema.corpus import CorpusSchema
    from mesm_data.schema.labels import LabelScheme

SPLIT_PARTS = {
    "train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "development": "valid", "test": "test", "testing": "test",
}  # fmt: skip
MARKS = {"0": False, "0.0": False, "false": False, "no": False, "1": True, "1.0": True, "true": True, "yes": True}
MAX_SHOWN = 20
MAX_SECONDS = 1e7  # 115 days

Row = Mapping[str, str]


@dataclass(slots=True)
class Problems:
    """The problems of a table, collected row by row.

    Attributes:
        where: the table's name.
        places: the name of each row, such as "row 1".
    """

    where: str
    places: Sequence[str]
    messages: list[str] = field(default_factory=list)

    def add(self, row: int, column: str, message: str) -> None:
        """Add a problem. `row` counts from 0."""
        self.messages.append(f"{self.places[row]}, column {column}: {message}")

    def raise_if_any(self) -> None:
        """Raise InputError that lists the problems, if there are any."""
        if self.messages:
            more = len(self.messages) - MAX_SHOWN
            lines = [*self.messages[:MAX_SHOWN], *([f"and {more} more"] if more > 0 else [])]
            raise InputError(
                f"{self.where}: {len(self.messages)} problems, nothing was built:\n  " + "\n  ".join(lines)
            )


def is_ruled_out(row: Row) -> bool:
    """Whether the row itself says that it is not to be built."""
    return any(row.get(status, "").strip() for status in ("failed", "excluded"))


def read_flags(row: Row, text: str) -> tuple[str, ...]:
    """Read the flags; `no_transcript` is added if there is no text."""
    flags = [part for part in re.split(r"[;,\s]+", row.get("flags", "")) if part]
    return tuple(dict.fromkeys([*flags, *([] if text else ["no_transcript"])]))


def read_part(cell: str) -> str | None:
    """Map the usual names of parts to train, valid or test; keep any other name. None for an empty cell."""
    text = cell.strip()
    return SPLIT_PARTS.get(text.lower(), text) or None


def read_channel(number: int, row: Row, problems: Problems) -> int | None:
    """Read a channel, which counts from 1 in the table and from 0 in the result; None for an empty cell."""
    cell = whole_number(row.get("channel", ""))
    if not cell:
        return None
    if not re.fullmatch(r"\d{1,2}", cell) or cell == "0":
        problems.add(number, "channel", f"{cell!r:.20} is not the number of a channel, counting from 1")
        return None
    return int(cell) - 1


def read_region(number: int, row: Row, problems: Problems) -> VideoRegion:
    """Read the speaker's part of the frame, 0 <= region_left < region_right <= 1; the whole frame for empty cells."""
    sides = [
        row.get(column, "").strip() or default for column, default in (("region_left", "0"), ("region_right", "1"))
    ]
    if all(re.fullmatch(r"[01](\.\d*)?|\.\d+", side, re.ASCII) for side in sides):
        left, right = map(float, sides)
        if left < right <= 1:
            return VideoRegion(left=left, right=right)
    problems.add(number, "region_left", f"{' to '.join(sides):.60} is not a part of the frame's width, from 0 to 1")
    return VideoRegion()


def read_times(number: int, row: Row, problems: Problems) -> tuple[float, float]:
    """Read start and end in seconds; the end is infinite if the table has none."""
    times: dict[str, float | None] = {}
    for column in ("start", "end", "duration"):
        cell = row.get(column, "").strip()
        try:
            times[column] = parse_seconds(cell)
        except InputError as error:
            problems.add(number, column, str(error))
            return 0.0, math.inf
    start, end = times["start"] or 0.0, math.inf
    if times["end"] is not None:
        end = times["end"]
    elif times["start"] is not None and times["duration"] is not None:
        end = start + times["duration"]
    if end <= start and not is_ruled_out(row):
        problems.add(number, "end", f"ends at {end} s, before it starts ({start} s)")
    return start, end


def parse_seconds(cell: str) -> float | None:
    """Parse 12.5, 00:01:02.500, 0:36:59,425 or "0 days 00:00:09.907641513" to seconds; None if empty or NaT."""
    text = cell.strip()
    if text.lower() in ("", "nat", "nan", "none"):
        return None
    if re.fullmatch(r"-?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?", text, re.ASCII) and abs(float(text)) < MAX_SECONDS:
        return max(0.0, float(text))
    parts = re.fullmatch(r"(?:(\d+) days?\s*)?(?:(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2}(?:[.,]\d{1,9})?))?", text, re.ASCII)
    if parts is None:
        raise InputError(f"{text!r:.40} is not a time: expected seconds (12.5) or 00:01:02.500")
    days, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in parts.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def whole_number(cell: str) -> str:
    """Write 3, " 3 " and 3.0 (pandas, if another cell of the column is empty) as 3; any other text is only stripped."""
    text = cell.strip()
    match = re.fullmatch(r"(\d{1,9})(?:\.0*)?", text, re.ASCII)
    return str(int(match[1])) if match else text


def read_mark(column: str, cell: str) -> bool | None:
    """Read whether a category is present, None for an empty cell. Raises InputError if it says neither yes nor no."""
    text = cell.strip().lower()
    if text in MISSING_CELLS:
        return None
    if text not in MARKS:
        raise InputError(f"{column}: {cell!r:.60} is neither 0 (false, no) nor 1 (true, yes)")
    return MARKS[text]


def label_reader(schema: "CorpusSchema", problems: Problems) -> Callable[[int, Row], dict[str, Any]]:
    """Return a function from a row's number and cells to its labels, by scheme. Equal cells are parsed once."""
    cache: dict[tuple[str, str], Any] = {}

    def parse(name: str, scheme: "LabelScheme", row: Row) -> Any:
        if scheme.columns:
            marks = {
                value: read_mark(column, row[column])
                for value, column in zip(scheme.values, scheme.columns, strict=True)
            }
            return None if set(marks.values()) == {None} else [value for value, mark in marks.items() if mark]
        cell = row[scheme.column or name]
        if (name, cell) not in cache:
            cache[name, cell] = scheme.parse(cell)
        return cache[name, cell]

    share_views = [view for name in schema.views if (view := schema.view(name)).target_rule == "share"]

    def read(number: int, row: Row) -> dict[str, Any]:
        labels: dict[str, Any] = {}
        for name, scheme in schema.labels.items():
            try:
                labels[name] = parse(name, scheme, row)
            except InputError as error:
                problems.add(number, scheme.column or name, str(error))
        for view in share_views:
            try:
                view.check_shares(view.target(labels))
            except InputError as error:
                problems.add(number, ", ".join(name for names in view.sources for name in names), str(error))
        return labels

    return read

"""Parser of MMSA's label.csv: rows, and a Problem for each row that cannot be parsed. It never raises.

The example has the real format and invented values.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

from mesm_data.corpora.mosei.ratings import HIGHEST, large_fields
from mesm_data.corpora.mosei.transcripts import parse_clip_number, parse_video_id
from mesm_data.corpora.parsing import Parsed

_NEEDED = ("video_id", "clip_id", "text", "label")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One clip.

    Attributes:
        line: the last line of the row.
        sentiment: from -3 to 3; None if the cell contains no such number.
        part: its part of the split, the column `mode`.
    """

    line: int
    video: str
    clip: int
    text: str
    sentiment: float | None
    part: str


def parse_table(text: str) -> Parsed[Row]:
    """Parse label.csv; the rows are in file order.

    video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode
    -3g5yACwYnA,2,"Good morning, everybody.",1.0,1.0,1.0,1.0,Positive,train

    Columns are identified by name, without surrounding blanks: their order differs between copies. Ids are strings,
    although 459 videos of CMU-MOSEI have numbers as ids.
    """
    parsed: Parsed[Row] = Parsed()
    with large_fields():
        rows = csv.reader(io.StringIO(text, newline=""))
        try:
            header = [name.strip().casefold() for name in next(rows, [])]
            if missing := [name for name in _NEEDED if name not in header]:
                parsed.add_problem(1, f"has no column {missing[0]}; expected {', '.join(_NEEDED)}", ",".join(header))
                return parsed
            for cells in rows:
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    parsed.add_problem(rows.line_num, f"has {len(cells)} cells, not {len(header)}", ",".join(cells))
                    continue
                _add_row(parsed, rows.line_num, dict(zip(header, map(str.strip, cells), strict=True)))
        except csv.Error as error:
            parsed.add_problem(rows.line_num, f"is not CSV from here on ({error})", "")
    return parsed


def _add_row(parsed: Parsed[Row], line: int, cells: Mapping[str, str]) -> None:
    video, clip = parse_video_id(cells["video_id"]), parse_clip_number(cells["clip_id"])
    if video is None or clip is None:
        parsed.add_problem(line, "names no clip", f"{cells['video_id']},{cells['clip_id']}")
        return
    try:
        value = float(cells["label"])
    except ValueError:
        value = float("nan")
    sentiment = value if abs(value) <= HIGHEST else None
    if sentiment is None:
        parsed.add_problem(line, "is no sentiment from -3 to 3; taken as not rated", cells["label"])
    parsed.records.append(
        Row(line=line, video=video, clip=clip, text=cells["text"], sentiment=sentiment, part=cells.get("mode", ""))
    )

"""Parser of MMSA's label.csv: text -> rows, and a Problem for every row that was not understood. It never raises.

The line shown has the real shape and made-up values.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

from mesm_data.corpora.mosei.ratings import HIGHEST, large_fields
from mesm_data.corpora.mosei.transcripts import clip_of, video_of
from mesm_data.corpora.parsing import Parsed

_NEEDED = ("video_id", "clip_id", "text", "label")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One clip. `sentiment` is from -3 to 3, None if the cell holds no such number; `mode` is its part of the split."""

    line: int
    video: str
    clip: int
    text: str
    sentiment: float | None
    mode: str


def parse_table(text: str) -> Parsed[Row]:
    """The rows of label.csv, in file order. `line` is the last that a row takes.

    video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode
    -3g5yACwYnA,2,"Good morning, everybody.",1.0,1.0,1.0,1.0,Positive,train

    Columns are found by name: their order differs between copies, and blanks may stand around the names. Ids are texts:
    of CMU-MOSEI's videos 459 have a number for a name.
    """
    parsed: Parsed[Row] = Parsed()
    with large_fields():
        rows = csv.reader(io.StringIO(text, newline=""))
        try:
            header = [name.strip().casefold() for name in next(rows, [])]
            if missing := [name for name in _NEEDED if name not in header]:
                parsed.problem(1, f"has no column {missing[0]}; expected {', '.join(_NEEDED)}", ",".join(header))
                return parsed
            for cells in rows:
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    parsed.problem(rows.line_num, f"has {len(cells)} cells, not {len(header)}", ",".join(cells))
                    continue
                _add(parsed, rows.line_num, dict(zip(header, map(str.strip, cells), strict=True)))
        except csv.Error as error:
            parsed.problem(rows.line_num, f"is not CSV from here on ({error})", "")
    return parsed


def _add(parsed: Parsed[Row], line: int, cells: Mapping[str, str]) -> None:
    video, clip = video_of(cells["video_id"]), clip_of(cells["clip_id"])
    if video is None or clip is None:
        parsed.problem(line, "names no clip", f"{cells['video_id']},{cells['clip_id']}")
        return
    try:
        value = float(cells["label"])
    except ValueError:
        value = float("nan")
    sentiment = value if abs(value) <= HIGHEST else None
    if sentiment is None:
        parsed.problem(line, "is no sentiment from -3 to 3; taken as not rated", cells["label"])
    mode = cells.get("mode", "")
    parsed.records.append(Row(line=line, video=video, clip=clip, text=cells["text"], sentiment=sentiment, mode=mode))

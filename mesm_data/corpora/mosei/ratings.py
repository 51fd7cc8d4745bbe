"""The answers of CMU-MOSEI's raters as exported by Amazon Mechanical Turk: six CSV files, one row per rater and clip.

Columns are identified by name, because the six files have different ones. Workers' ids are personal data: they serve to
recognise copies of a row while a file is read, and are not stored.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from mesm_data.corpora.mosei.transcripts import parse_clip_number, parse_video_id
from mesm_data.corpora.parsing import Parsed
from mesm_data.corpora.source_tree import open_table

EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
ITEMS = (*EMOTIONS, "sentiment")
# Emotions from 0 (none) to 3 (high), sentiment from -3 to 3.
LOWEST = {**dict.fromkeys(EMOTIONS, 0.0), "sentiment": -3.0}
HIGHEST = 3.0
LARGEST = 1e6  # a larger number is not an answer

_VIDEO, _CLIP = "input.video_id", "input.clip"
_ANSWERS = {f"answer.{item}": item for item in ITEMS}
_NEEDED = (_VIDEO, _CLIP, *_ANSWERS)
_SEPARATOR = re.compile(r'"?sep=([^"])"?', re.IGNORECASE)  # Excel's own first line
_EMPTY = frozenset({"", "nan", "na", "n/a", "none", "null", "{}"})

Values = Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One rater's row.

    Attributes:
        line: the last line of the row.
        values: the answers in the order of ITEMS; None for an empty cell.
        origin: what identifies the row in every copy of it; None if nothing does.
    """

    line: int
    video: str
    clip: int
    values: tuple[float | None, ...]
    origin: str | None


def parse_answers(lines: Iterable[str]) -> Parsed[Answer]:
    r"""Parse one file; the rows are in file order. Cells with HTML contain line breaks.

    HITId,HITTypeId,Title,...,WorkerId,...,Input.VIDEO_ID,Input.CLIP,Answer.anger,Answer.disgust,...,Answer.surprise,...
    3X0,3Y1,"Rate ""emotion"",\nand sentiment",...,A1,...,folder/-3g5yACwYnA,2.0,0,0,0,...,1,...

    A row without a video or a clip is skipped; a row without any answer is kept. Never raises: a file without the
    required columns is a problem of line 1.
    """
    parsed: Parsed[Answer] = Parsed()
    with large_fields():
        try:
            rows = _reader(lines)
            header = [name.strip().casefold() for name in next(rows, [])]
            missing = [name for name in _NEEDED if name not in header]
            if missing:
                parsed.add_problem(1, f"has no column {missing[0]}; not a file of ratings", ",".join(header))
                return parsed
            columns = {name: header.index(name) for name in header}
            for cells in rows:
                _parse_row(parsed, rows.line_num, cells, columns)  # type: ignore[attr-defined]
        except csv.Error as error:
            parsed.add_problem(rows.line_num, f"is not CSV from here on ({error})", "")  # type: ignore[attr-defined]
    return parsed


def _reader(lines: Iterable[str]) -> Iterator[list[str]]:
    """Return a reader with the delimiter of the first line: a spreadsheet may have saved a copy with another one.

    sep=;
    """
    source = iter(lines)
    first = next(source, "")
    named = _SEPARATOR.fullmatch(first.rstrip("\r\n"))
    delimiter = named[1] if named else max(",;\t", key=first.count)

    def all_lines() -> Iterator[str]:
        yield first
        yield from source

    reader = csv.reader(all_lines(), delimiter=delimiter)
    if named:
        next(reader)
    return reader


def _parse_row(parsed: Parsed[Answer], line: int, cells: Sequence[str], columns: Mapping[str, int]) -> None:
    if not any(cells):
        return
    if len(cells) <= max(columns[name] for name in _NEEDED):
        parsed.add_problem(line, f"ends after {len(cells)} cells, a quote may be open", ",".join(cells[-3:]))
        return
    video, clip = parse_video_id(cells[columns[_VIDEO]]), parse_clip_number(cells[columns[_CLIP]])
    if video is None or clip is None:
        ids = (cells[columns[_VIDEO]].strip(), cells[columns[_CLIP]].strip())
        if any(cell.casefold() in _EMPTY for cell in ids):
            parsed.skipped["without a video or a clip"] += 1
        else:
            parsed.add_problem(line, "names no clip", "{}, {}".format(*ids))
        return
    values = tuple(_value(parsed, line, item, cells[columns[name]]) for name, item in _ANSWERS.items())
    parsed.records.append(Answer(line=line, video=video, clip=clip, values=values, origin=_origin(cells, columns)))


def _value(parsed: Parsed[Answer], line: int, item: str, cell: str) -> float | None:
    """Parse a number or an empty cell. A number off the scale is kept and reported."""
    cell = cell.strip()
    if cell.casefold() in _EMPTY:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not abs(value) <= LARGEST:
        parsed.add_problem(line, f"{item} is no number; taken as not answered", cell)
        return None
    if not LOWEST[item] <= value <= HIGHEST:
        parsed.add_problem(line, f"{item} is outside {LOWEST[item]:g} .. {HIGHEST:g}; kept", cell)
    return value


def _origin(cells: Sequence[str], columns: Mapping[str, int]) -> str | None:
    """Return what identifies a row in every copy of it: MTurk's assignment, or task and worker."""
    for names in (("assignmentid",), ("hitid", "workerid")):
        ids = [cells[columns[name]].strip() for name in names if name in columns and columns[name] < len(cells)]
        if len(ids) == len(names) and all(ids):
            return " ".join(ids)
    return None


@contextmanager
def large_fields() -> Iterator[None]:
    """Allow cells larger than csv's 128 KiB (some contain an HTML page). The process-wide limit is restored afterwards.

    2 GiB - 1 fits into a C long on every platform.
    """
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def read_answers(path: Path) -> Parsed[Answer]:
    """Read the answers in a file. Bytes that are not UTF-8 occur only in columns that are not used. Raises OSError."""
    with open_table(path) as file:
        return parse_answers(file)


def leaves_zeros_empty(answers: Iterable[Answer]) -> bool:
    """Whether a file leaves cells empty instead of writing 0: it has empty cells and no 0."""
    values = {value for answer in answers for value in answer.values}
    return None in values and 0.0 not in values


def mean_ratings(raters: Sequence[Values]) -> dict[str, float | None]:
    """Return the mean of each item over all raters; a missing answer counts as 0.

    The published means are all multiples of 1/3 or 1/6, for three or six raters, and never of 1/2: they count a missing
    answer as 0. An emotion is present if its mean is above 0 (README of the CMU-MultimodalSDK). This criterion is the
    same for means and for sums, as in the paper's notebook, because no answer is negative.
    """
    return {item: fmean(rater[item] or 0.0 for rater in raters) for item in ITEMS}


def candidate_means(raters: Sequence[Values]) -> list[dict[str, float | None]]:
    """Return the means under each interpretation of missing answers, the most likely first.

    A missing answer is 0; or raters without any answer do not count; or missing answers do not count. If no answer is
    missing, there is only one result.
    """
    candidates = [mean_ratings(raters)]
    if any(is_incomplete(rater) for rater in raters):
        active = [rater for rater in raters if has_answer(rater)]
        candidates += [mean_ratings(active)] if active else []
        values = {item: [value for rater in raters if (value := rater[item]) is not None] for item in ITEMS}
        candidates.append({item: fmean(answers) if answers else None for item, answers in values.items()})
    return candidates


def has_answer(rater: Values) -> bool:
    """Whether a rater gave any answer."""
    return any(value is not None for value in rater.values())


def is_incomplete(rater: Values) -> bool:
    """Whether a rater left an answer empty."""
    return any(value is None for value in rater.values())


def mosei_labels(means: Values | None, raters: Sequence[Values]) -> dict[str, Any]:
    """Return the `labels` record of a clip; `means` is None for a clip without ratings."""
    return {
        **{item: means[item] if means is not None else None for item in ITEMS},
        # MTurk's worker ids are personal data and not stored.
        "raters": [{"rater": None, "self": False, "comment": None, **rater} for rater in raters],
    }


def is_labelled(labels: Mapping[str, Any]) -> bool:
    """Whether the clip has been rated."""
    return any(labels[item] is not None for item in ITEMS)

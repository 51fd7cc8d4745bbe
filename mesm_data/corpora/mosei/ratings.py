"""The answers of CMU-MOSEI's raters, as Amazon Mechanical Turk gave them out: six CSV files, one row a rater and clip.

Columns are found by name, never by place: the six files do not have the same ones. Workers' ids are personal; they
tell copies of a row apart while a file is read and are not kept.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from mesm_data.corpora.mosei.transcripts import clip_of, video_of
from mesm_data.corpora.parsing import Parsed
from mesm_data.corpora.source_tree import open_table

EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
ITEMS = (*EMOTIONS, "sentiment")
# Emotions from 0 (none) to 3 (high), sentiment from -3 to 3.
LOWEST = {**dict.fromkeys(EMOTIONS, 0.0), "sentiment": -3.0}
HIGHEST = 3.0
LARGEST = 1e6  # what is beyond is no number that anyone answered

_VIDEO, _CLIP = "input.video_id", "input.clip"
_ANSWERS = {f"answer.{item}": item for item in ITEMS}
_NEEDED = (_VIDEO, _CLIP, *_ANSWERS)
_SEPARATOR = re.compile(r'"?sep=([^"])"?', re.IGNORECASE)  # Excel's own first line
_EMPTY = frozenset({"", "nan", "na", "n/a", "none", "null", "{}"})

Values = Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One rater's row. `values`: ITEMS in order, None for an empty cell. `origin` names the row, if anything does."""

    line: int
    video: str
    clip: int
    values: tuple[float | None, ...]
    origin: str | None


def parse_answers(lines: Iterable[str]) -> Parsed[Answer]:
    r"""The rows of one file, in its order. `line` is the last that a row takes: cells of HTML hold line ends.

    HITId,HITTypeId,Title,...,WorkerId,...,Input.VIDEO_ID,Input.CLIP,Answer.anger,Answer.disgust,...,Answer.surprise,...
    3X0,3Y1,"Rate ""emotion"",\nand sentiment",...,A1,...,folder/-3g5yACwYnA,2.0,0,0,0,...,1,...

    A row without a video or a clip is no rating (skipped, counted); one in which no item is answered may be. Never
    raises; a file without the needed columns is a problem of line 1.
    """
    parsed: Parsed[Answer] = Parsed()
    with large_fields():
        try:
            rows = _reader(lines)
            header = [name.strip().casefold() for name in next(rows, [])]
            missing = [name for name in _NEEDED if name not in header]
            if missing:
                parsed.problem(1, f"has no column {missing[0]}; not a file of ratings", ",".join(header))
                return parsed
            columns = {name: header.index(name) for name in header}
            for cells in rows:
                _parse_row(parsed, rows.line_num, cells, columns)  # type: ignore[attr-defined]
        except csv.Error as error:
            parsed.problem(rows.line_num, f"is not CSV from here on ({error})", "")  # type: ignore[attr-defined]
    return parsed


def _reader(lines: Iterable[str]) -> Iterator[list[str]]:
    """A reader with the delimiter of the first line: a spreadsheet may have saved a copy with another.

    sep=;
    """
    source = iter(lines)
    first = next(source, "")
    named = _SEPARATOR.fullmatch(first.rstrip("\r\n"))
    delimiter = named[1] if named else max(",;\t", key=first.count)

    def again() -> Iterator[str]:
        yield first
        yield from source

    reader = csv.reader(again(), delimiter=delimiter)
    if named:
        next(reader)
    return reader


def _parse_row(parsed: Parsed[Answer], line: int, cells: Sequence[str], columns: Mapping[str, int]) -> None:
    if not any(cells):
        return
    if len(cells) <= max(columns[name] for name in _NEEDED):
        parsed.problem(line, f"ends after {len(cells)} cells, a quote may be open", ",".join(cells[-3:]))
        return
    video, clip = video_of(cells[columns[_VIDEO]]), clip_of(cells[columns[_CLIP]])
    if video is None or clip is None:
        where = (cells[columns[_VIDEO]].strip(), cells[columns[_CLIP]].strip())
        if any(cell.casefold() in _EMPTY for cell in where):
            parsed.skipped["without a video or a clip"] += 1
        else:
            parsed.problem(line, "names no clip", "{}, {}".format(*where))
        return
    values = tuple(_value(parsed, line, item, cells[columns[name]]) for name, item in _ANSWERS.items())
    parsed.records.append(Answer(line=line, video=video, clip=clip, values=values, origin=_origin(cells, columns)))


def _value(parsed: Parsed[Answer], line: int, item: str, cell: str) -> float | None:
    """A number or nothing. One that is off the scale is kept as it stands, and reported."""
    cell = cell.strip()
    if cell.casefold() in _EMPTY:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not abs(value) <= LARGEST:
        parsed.problem(line, f"{item} is no number; taken as not answered", cell)
        return None
    if not LOWEST[item] <= value <= HIGHEST:
        parsed.problem(line, f"{item} is outside {LOWEST[item]:g} .. {HIGHEST:g}; kept", cell)
    return value


def _origin(cells: Sequence[str], columns: Mapping[str, int]) -> str | None:
    """What tells this row from all others, wherever it is copied to: MTurk's assignment, or task and worker."""
    for names in (("assignmentid",), ("hitid", "workerid")):
        found = [cells[columns[name]].strip() for name in names if name in columns and columns[name] < len(cells)]
        if len(found) == len(names) and all(found):
            return " ".join(found)
    return None


@contextmanager
def large_fields() -> Iterator[None]:
    """Let a cell be larger than csv's 128 KiB: one holds a page of HTML. The limit is the process' own: it is put back.

    2 GiB - 1 is what a C long holds everywhere.
    """
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def read_answers(path: Path) -> Parsed[Answer]:
    """The answers in a file; other bytes than UTF-8 occur only in columns that are not read. Raises OSError."""
    with open_table(path) as file:
        return parse_answers(file)


def leaves_zeros_empty(answers: Iterable[Answer]) -> bool:
    """Whether the file of these answers has an empty cell where others have a 0: it holds the one and not the other."""
    values = {value for answer in answers for value in answer.values}
    return None in values and 0.0 not in values


def means(raters: Sequence[Values]) -> dict[str, float | None]:
    """Item -> the mean over all raters, a missing answer counting as 0.

    The means that were published are all multiples of 1/3 or 1/6, for three or six raters, and never of 1/2: a missing
    answer is a 0 in them. An emotion counts as present if its mean is above 0 (README of the CMU-MultimodalSDK). For
    that it is the same whether answers are averaged or, as in the paper's notebook, summed: no answer is below 0.
    """
    return {item: fmean(rater[item] or 0.0 for rater in raters) for item in ITEMS}


def possible_means(raters: Sequence[Values]) -> list[dict[str, float | None]]:
    """The means by every reading of missing answers, the most likely first; one only where every rater answered all.

    A missing answer is a 0; or raters who answered nothing do not count; or missing answers are left out.
    """
    found = [means(raters)]
    if any(is_incomplete(rater) for rater in raters):
        some = [rater for rater in raters if answered(rater)]
        found += [means(some)] if some else []
        values = {item: [value for rater in raters if (value := rater[item]) is not None] for item in ITEMS}
        found.append({item: fmean(given) if given else None for item, given in values.items()})
    return found


def answered(rater: Values) -> bool:
    """Whether a rater answered anything."""
    return any(value is not None for value in rater.values())


def is_incomplete(rater: Values) -> bool:
    """Whether a rater left an answer empty."""
    return any(value is None for value in rater.values())


def labels(means: Values | None, raters: Sequence[Values]) -> dict[str, Any]:
    """The record `labels`; `means` None: the clip has not been rated."""
    return {
        **{item: means[item] if means is not None else None for item in ITEMS},
        # MTurk's worker ids are personal and not kept.
        "raters": [{"rater": None, "self": False, "comment": None, **rater} for rater in raters],
    }


def is_labelled(labels: Mapping[str, Any]) -> bool:
    """Whether the clip has been rated."""
    return any(labels[item] is not None for item in ITEMS)

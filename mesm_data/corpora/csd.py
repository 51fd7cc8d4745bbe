"""The computational sequences (.csd) of the CMU-MultimodalSDK: HDF5 files with a table and its times for each video.

<root name>/data/<vid>/features    (n, d) float, or bytes for words
<root name>/data/<vid>/intervals   (n, 2) float: start and end of each row, in seconds of the video
<root name>/metadata/<field>       JSON texts, among them "dimension names"

Only its times tell to which clip a row belongs. In CMU_MOSEI_Labels.csd the rows of a video are sorted by the clips'
numbers as strings ("10" before "2"), other files are sorted in other ways: rows are matched by their times.
The files come from untrusted mirrors; hdf5_tables.py reads them.
"""

import json
import math
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from mesm_data.corpora.mosei.ratings import ITEMS
from mesm_data.errors import InputError, MesmError
from mesm_data.schema.recordings import Word
from mesm_data.storage.machine_errors import raise_for_exit_code

# The SDK's names of the label file's columns -> ours.
_ITEMS = {**{item: item for item in ITEMS}, "happy": "happiness", "sad": "sadness"}
_PART = re.compile(r"\[\d+\]$", re.ASCII)  # `<vid>[k]`: a file that was aligned with another
PAUSE = "sp"


class VideoTable(NamedTuple):
    """The table of one video: features (n, d) and intervals (n, 2)."""

    video: str
    features: list[list[Any]]
    intervals: list[list[float]]


class Segment(NamedTuple):
    """One row of a sequence with one value. Times are seconds of the video."""

    start: float
    end: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRow:
    """One row of the label file.

    Attributes:
        index: number of the row within its video, from 0.
        values: item -> value; None if the cell is not a finite number.
    """

    index: int
    start: float
    end: float
    values: dict[str, float | None]


def read_labels(path: Path) -> tuple[dict[str, list[LabelRow]], list[str]]:
    """Read CMU_MOSEI_Labels.csd: video -> rows, and what could not be used.

    Raises:
        MesmError: the file cannot be read or does not name its columns.
        InputError: h5py is not installed.
    """
    names, tables, problems = _read_tables(path)
    names = [_ITEMS.get(name.strip().casefold(), name) for name in names]
    if missing := [item for item in ITEMS if item not in names]:
        raise MesmError(f"names no column for {missing[0]} (`dimension names`: {', '.join(names)[:200] or 'none'})")
    columns = {item: names.index(item) for item in ITEMS}
    rows_of: dict[str, list[LabelRow]] = {}
    for video, features, intervals in tables:
        if any(len(values) != len(names) or isinstance(values[0], str) for values in features):
            problems.append(f"{video}: its features are not {len(names)} numbers a row")
            continue
        rows = rows_of.setdefault(video, [])
        for (start, end), values in zip(intervals, features, strict=True):
            by_item = {item: _finite(values[column]) for item, column in columns.items()}
            rows.append(LabelRow(index=len(rows), start=start, end=end, values=by_item))
    return rows_of, problems


def read_segments(path: Path) -> tuple[dict[str, list[Segment]], list[str]]:
    """Read a sequence with one value per row: video -> segments in file order, and what could not be used.

    Raises:
        MesmError: the file cannot be read.
        InputError: h5py is not installed.
    """
    _, tables, problems = _read_tables(path)
    segments: dict[str, list[Segment]] = {}
    for video, features, intervals in tables:
        if any(len(values) != 1 or isinstance(values[0], str) for values in features):
            problems.append(f"{video}: its features are not one number a row")
            continue
        rows = zip(intervals, features, strict=True)
        segments[video] = [Segment(start, end, value) for (start, end), (value,) in rows]
    return segments, problems


def read_words(path: Path) -> tuple[dict[str, list[Word]], list[str]]:
    """Read CMU_MOSEI_TimestampedWords.csd: video -> words sorted by time, in seconds of the video; pauses are skipped.

    Raises:
        MesmError: the file cannot be read.
        InputError: h5py is not installed.
    """
    _, tables, problems = _read_tables(path)
    words_of: dict[str, list[Word]] = {}
    for video, features, intervals in tables:
        if any(len(values) != 1 for values in features):
            problems.append(f"{video}: its features are not one word a row")
            continue
        words = words_of.setdefault(video, [])
        for (start, end), [value] in zip(intervals, features, strict=True):
            word = str(value).strip("\0 ")
            if word and word != PAUSE:
                words.append(Word(word=word, start=start, end=end))
        words.sort(key=lambda word: (word.start, word.end))
    return words_of, problems


def words_within(words: list[Word], start: float, end: float) -> tuple[Word, ...]:
    """Return the words whose middle is in start <= t < end, clipped to that interval.

    Their times are seconds from `start`, rounded to the microsecond.
    """
    return tuple(
        Word(
            word=word.word,
            start=round(max(word.start - start, 0.0), 6),
            end=round(min(word.end, end) - start, 6),
        )
        for word in words
        if start <= (word.start + word.end) / 2 < end
    )


def _read_tables(path: Path) -> tuple[list[str], list[VideoTable], list[str]]:
    """Read the names of the columns, the tables, and what could not be read; hdf5_tables.py does it in a subprocess."""
    if find_spec("h5py") is None:
        raise InputError(f"{path}: to read .csd files, pip install 'mesm[csd]' (or h5py)")
    # -P: nothing is imported from the working directory. PYTHONPATH: the subprocess can import what this process can.
    command = [sys.executable, "-P", "-m", "mesm_data.corpora.hdf5_tables", str(path.absolute())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise MesmError("takes too much time or memory to read: it is damaged, or made to do so")
    if process.returncode != 0:
        code = process.returncode
        raise MesmError(
            f"is damaged: the HDF5 library ends with {f'signal {-code}' if code < 0 else f'exit code {code}'} on it"
        )
    output = json.loads(process.stdout)
    if "error" in output:
        raise_for_exit_code(1, output["error"])
        raise MesmError(output["error"])
    tables = [VideoTable(_PART.sub("", video), *rest) for video, *rest in output["tables"]]
    return output["dimensions"], tables, output["problems"]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

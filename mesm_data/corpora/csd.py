"""The CMU-MultimodalSDK's computational sequences (.csd): HDF5 files of a table and its times for every video.

<root name>/data/<vid>/features    (n, d) float, or bytes for words
<root name>/data/<vid>/intervals   (n, 2) float: start and end of every row, in seconds of the video
<root name>/metadata/<field>       JSON texts, among them "dimension names"

A row says nothing but its times about what it belongs to. In CMU_MOSEI_Labels.csd the rows of a video stand in the
order of the clips' numbers as texts ("10" before "2"), other files have another order: rows are joined by their times.
The files come from strangers' mirrors: see hdf5_tables.py, which reads them.
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
from typing import Any

from mesm_data.corpora.mosei.ratings import ITEMS
from mesm_data.errors import InputError, MesmError
from mesm_data.schema.recordings import Word
from mesm_data.storage.machine_errors import raise_for_exit_code

# The SDK's names of the label file's columns -> ours.
_ITEMS = {**{item: item for item in ITEMS}, "happy": "happiness", "sad": "sadness"}
_PART = re.compile(r"\[\d+\]$", re.ASCII)  # `<vid>[k]`: a file that was aligned with another
PAUSE = "sp"

Table = tuple[str, list[list[Any]], list[list[float]]]  # video, features (n, d), intervals (n, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """One row of the label file. `index` counts the rows of a video from 0. `values`: what is not a number is None."""

    index: int
    start: float
    end: float
    values: dict[str, float | None]


def read_labels(path: Path) -> tuple[dict[str, list[Rated]], list[str]]:
    """Video -> the rows of CMU_MOSEI_Labels.csd, and what could not be used of it.

    Raises MesmError if the file cannot be read or does not name its columns, InputError without h5py.
    """
    names, tables, problems = _read(path)
    names = [_ITEMS.get(name.strip().casefold(), name) for name in names]
    if missing := [item for item in ITEMS if item not in names]:
        raise MesmError(f"names no column for {missing[0]} (`dimension names`: {', '.join(names)[:200] or 'none'})")
    columns = {item: names.index(item) for item in ITEMS}
    rated: dict[str, list[Rated]] = {}
    for video, features, intervals in tables:
        if any(len(values) != len(names) or isinstance(values[0], str) for values in features):
            problems.append(f"{video}: its features are not {len(names)} numbers a row")
            continue
        rows = rated.setdefault(video, [])
        for (start, end), values in zip(intervals, features, strict=True):
            by_item = {item: _finite(values[column]) for item, column in columns.items()}
            rows.append(Rated(index=len(rows), start=start, end=end, values=by_item))
    return rated, problems


def read_segments(path: Path) -> tuple[dict[str, list[tuple[float, float, float]]], list[str]]:
    """Video -> start, end and the one value of each row, in the file's order, and what could not be used of the file.

    Raises MesmError if the file cannot be read, InputError without h5py.
    """
    _, tables, problems = _read(path)
    segments: dict[str, list[tuple[float, float, float]]] = {}
    for video, features, intervals in tables:
        if any(len(values) != 1 or isinstance(values[0], str) for values in features):
            problems.append(f"{video}: its features are not one number a row")
            continue
        segments[video] = [(*times, value) for times, (value,) in zip(intervals, features, strict=True)]
    return segments, problems


def read_words(path: Path) -> tuple[dict[str, list[Word]], list[str]]:
    """Video -> the words of CMU_MOSEI_TimestampedWords.csd by time, in seconds of the video; pauses are left out.

    Raises MesmError if the file cannot be read, InputError without h5py.
    """
    _, tables, problems = _read(path)
    timed: dict[str, list[Word]] = {}
    for video, features, intervals in tables:
        if any(len(values) != 1 for values in features):
            problems.append(f"{video}: its features are not one word a row")
            continue
        words = timed.setdefault(video, [])
        for (start, end), [value] in zip(intervals, features, strict=True):
            word = str(value).strip("\0 ")
            if word and word != PAUSE:
                words.append(Word(w=word, t0=start, t1=end))
        words.sort(key=lambda word: (word.t0, word.t1))
    return timed, problems


def words_within(words: list[Word], start: float, end: float) -> tuple[Word, ...]:
    """The words whose middle is in start <= t < end, cut to that, in seconds from `start` (to the microsecond)."""
    return tuple(
        Word(w=word.w, t0=round(max(word.t0 - start, 0.0), 6), t1=round(min(word.t1, end) - start, 6))
        for word in words
        if start <= (word.t0 + word.t1) / 2 < end
    )


def _read(path: Path) -> tuple[list[str], list[Table], list[str]]:
    """The names of the columns, the tables, and what could not be read, by hdf5_tables.py in a process of its own."""
    if find_spec("h5py") is None:
        raise InputError(f"{path}: to read .csd files, pip install 'mesm[csd]' (or h5py)")
    # -P: nothing is imported from the folder that the user is in. What this process can import, the other one can.
    command = [sys.executable, "-P", "-m", "mesm_data.corpora.hdf5_tables", str(path.absolute())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise MesmError("takes too much time or memory to read: it is damaged, or made to do so")
    if done.returncode != 0:
        why = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise MesmError(f"is damaged: the HDF5 library ends with {why} on it")
    found = json.loads(done.stdout)
    if "error" in found:
        raise_for_exit_code(1, found["error"])
        raise MesmError(found["error"])
    tables = [(_PART.sub("", video), features, intervals) for video, features, intervals in found["tables"]]
    return found["dimensions"], tables, found["problems"]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

"""The CMU-MultimodalSDK's computational sequences (.csd): HDF5 files of a table and its times for every video.

<root name>/data/<vid>/features    (n, d) float, or bytes for words
<root name>/data/<vid>/intervals   (n, 2) float: start and end of every row, in seconds of the video
<root name>/metadata/<field>       JSON texts, among them "dimension names"

A row says nothing but its times about what it belongs to. In CMU_MOSEI_Labels.csd the rows of a video stand in the
order of the clips' numbers as texts ("10" before "2"), other files have another order: rows are joined by their times.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.corpora.base import Word
from mesm_data.corpora.mosei_labels import ITEMS
from mesm_data.errors import InputError, MesmError
from mesm_data.machine import raise_resource_error

# The SDK's names of the label file's columns -> ours.
_ITEMS = {**{item: item for item in ITEMS}, "happy": "happiness", "sad": "sadness"}
_PART = re.compile(r"\[\d+\]$", re.ASCII)  # `<vid>[k]`: a file that was aligned with another
PAUSE = "sp"


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
    with _Csd(path) as file:
        names = [_ITEMS.get(name.strip().casefold(), name) for name in file.dimensions()]
        if missing := [item for item in ITEMS if item not in names]:
            raise MesmError(f"names no column for {missing[0]} (`dimension names`: {', '.join(names) or 'none'})")
        columns = {item: names.index(item) for item in ITEMS}
        found: dict[str, list[Rated]] = {}
        for video, features, intervals in file.tables():
            if features.ndim != 2 or features.shape[1] != len(names) or features.dtype.kind not in "fiu":
                file.problems.append(f"{video}: its features are {features.shape}, expected (n, {len(names)})")
                continue
            rows = found.setdefault(video, [])
            for (start, end), values in zip(intervals.tolist(), features.tolist(), strict=True):
                rated = {item: _finite(values[column]) for item, column in columns.items()}
                rows.append(Rated(index=len(rows), start=start, end=end, values=rated))
        return found, file.problems


def read_words(path: Path) -> tuple[dict[str, list[Word]], list[str]]:
    """Video -> the words of CMU_MOSEI_TimestampedWords.csd by time, in seconds of the video; pauses are left out.

    Raises MesmError if the file cannot be read, InputError without h5py.
    """
    with _Csd(path) as file:
        found: dict[str, list[Word]] = {}
        for video, features, intervals in file.tables():
            if features.size != len(intervals):
                file.problems.append(f"{video}: its features are {features.shape}, expected ({len(intervals)}, 1)")
                continue
            words = found.setdefault(video, [])
            for (start, end), raw in zip(intervals.tolist(), features.reshape(-1).tolist(), strict=True):
                word = (raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)).strip("\0 ")
                if word and word != PAUSE:
                    words.append(Word(w=word, t0=start, t1=end))
            words.sort(key=lambda word: (word.t0, word.t1))
        return found, file.problems


def words_within(words: list[Word], start: float, end: float) -> tuple[Word, ...]:
    """The words whose middle is in start <= t < end, cut to that, in seconds from `start` (to the microsecond)."""
    return tuple(
        Word(w=word.w, t0=round(max(word.t0 - start, 0.0), 6), t1=round(min(word.t1, end) - start, 6))
        for word in words
        if start <= (word.t0 + word.t1) / 2 < end
    )


class _Csd:
    """An open file; whatever h5py makes of a damaged one is a MesmError."""

    def __init__(self, path: Path) -> None:
        try:
            import h5py
        except ImportError:
            raise InputError(f"{path}: to read .csd files, pip install 'mesm[csd]' (or h5py)") from None
        self.problems: list[str] = []
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise_resource_error(error)
            raise MesmError(f"is not a readable HDF5 file ({error})") from None
        self._group = h5py.Group

    def __enter__(self) -> "_Csd":
        roots = [root for root in self._file.values() if isinstance(root, self._group) and "data" in root]
        if len(roots) != 1:
            self._file.close()
            raise MesmError(f"is not a computational sequence: {len(roots)} groups in it hold `data`, expected one")
        self._root = roots[0]
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def dimensions(self) -> list[str]:
        """The names of the columns; none if the file does not say."""
        try:
            raw = self._root["metadata/dimension names"][()]
            first = raw if isinstance(raw, bytes | str) else raw.reshape(-1)[0]
            names = json.loads(first)
        except (KeyError, OSError, ValueError, IndexError, TypeError, AttributeError):
            return []
        return [str(name) for name in names] if isinstance(names, list) else []

    def tables(self) -> Iterator[tuple[str, Any, Any]]:
        """(video, features, intervals (n, 2)) of every video whose table is whole."""
        for name, group in self._root["data"].items():
            try:
                features, intervals = group["features"][()], group["intervals"][()]
            except (KeyError, OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
                self.problems.append(f"{name}: cannot be read ({str(error)[:200]})")
                continue
            good = intervals.ndim == 2 and intervals.shape[1] == 2 and intervals.dtype.kind in "fiu"
            if not good or len(features) != len(intervals) or not _all_finite(intervals):
                self.problems.append(f"{name}: {len(features)} features and intervals of the shape {intervals.shape}")
                continue
            yield _PART.sub("", name), features, intervals


def _all_finite(values: Any) -> bool:
    import numpy as np

    return bool(np.isfinite(values).all())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

"""Writers of two files of the CMU Multimodal SDK: labels and timed words, as HDF5.

<root name>/data/<vid>/{features (n, d), intervals (n, 2) in seconds}, <root name>/metadata/<field> (JSON strings).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.synthetic.mosei_ratings import Votes
from mesm_data.synthetic.mosei_script import Monologue
from mesm_data.synthetic.speech import Span

# The SDK's order of columns, which is not alphabetical.
COLUMNS = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")
ANSWERS = ("happiness", "sadness", "anger", "surprise", "disgust", "fear")
FIELDS = ("version", "creator", "contact", "md5", "dataset version", "dimension names", "bib citations")

Table = tuple[NDArray[Any], NDArray[np.float64]]


def write_csd_files(root: Path, monologues: Sequence[Monologue], words: Mapping[str, Sequence[Span]]) -> None:
    """Write CMU_MOSEI_Labels.csd and CMU_MOSEI_TimestampedWords.csd; `words` are in seconds of their video."""
    labels = {monologue.id: _labels(monologue) for monologue in monologues if any(c.votes for c in monologue.clips)}
    _write_hdf5(root / "CMU_MOSEI_Labels.csd", "All Labels", COLUMNS, labels)
    timed = {monologue.id: _words(words[monologue.id]) for monologue in monologues}
    _write_hdf5(root / "CMU_MOSEI_TimestampedWords.csd", "words", ("word",), timed)


def _labels(monologue: Monologue) -> Table:
    """Return the means of the rated clips, sorted by number as strings: 10 before 2, as in the SDK's file."""
    rated = sorted((clip for clip in monologue.clips if clip.votes), key=lambda clip: str(clip.number))
    features = np.array([_means(clip.votes) for clip in rated], np.float32)
    return features, np.array([[float(clip.start), float(clip.end)] for clip in rated])


def _means(votes: Sequence[Votes]) -> list[float]:
    return [
        fmean(vote.sentiment for vote in votes),
        *(fmean(vote.emotions[name] for vote in votes) for name in ANSWERS),
    ]


def _words(words: Sequence[Span]) -> Table:
    """Return one row per word, and `sp` for the pauses between them."""
    rows: list[Span] = []
    for word in words:
        before = rows[-1].end if rows else 0.0
        if word.start > before:
            rows.append(Span("sp", before, word.start))
        rows.append(Span(word.name.lower().strip('.,!?"()'), max(before, word.start), word.end))
    features = np.array([[row.name.encode()] for row in rows], "S32")
    return features, np.array([[row.start, row.end] for row in rows])


def _write_hdf5(path: Path, name: str, columns: Sequence[str], videos: Mapping[str, Table]) -> None:
    import h5py

    known = {"root name": name, "dataset name": "SYNTHETIC, not CMU-MOSEI", "dimension names": list(columns)}
    with h5py.File(path, "w") as file:
        for id_, (features, intervals) in videos.items():
            file[f"{name}/data/{id_}/features"] = features
            file[f"{name}/data/{id_}/intervals"] = intervals
        for field, value in {**dict.fromkeys(FIELDS, ""), **known}.items():
            file[f"{name}/metadata/{field}"] = [json.dumps(value)]

"""Features of the CMU-MultimodalSDK's computational sequences (.csd), joined to utterances by time.

COVAREP (74 numbers, 100 rows a second) and FACET 4.2 (35 numbers, 30 rows a second) of CMU-MOSEI and CMU-MOSI.
"""

import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.corpora import hdf5_tables
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError, MesmError, first_line
from mesm_data.features.base import Description, Extract, Extractor, Features, pool, replace_not_finite
from mesm_data.storage.files import sha256_file

_PART = re.compile(r"\[\d+\]$", re.ASCII)
MAX_TABLE = 2**30  # bytes of one video's rows: 10 hours of COVAREP
LICENCES = {
    "covarep": "COVAREP features of the CMU-MultimodalSDK's file: the terms of that file and of the corpus hold",
    "facet": "FACET (iMotions, commercial) features of the CMU-MultimodalSDK's file: the terms of that file hold",
}


@dataclass(frozen=True)
class CSD(Extractor):
    """The rows of a .csd file whose middle lies in the utterance."""

    file: str
    what: str  # covarep or facet
    window: float = 0.0
    isolated = True  # the HDF5 library crashes on some damaged files

    @property
    def kind(self) -> str:  # type: ignore[override]
        """covarep-csd or facet-csd."""
        return f"{self.what}-csd"

    def describe(self) -> Description:
        """Raises InputError without h5py, or if the file is not a computational sequence of numbers."""
        if find_spec("h5py") is None:
            raise InputError(f"{self.file}: to read .csd files, pip install 'mesm[csd]' (or h5py)")
        with _Sequence(Path(self.file)) as sequence:
            columns = sequence.columns()
        return Description(
            columns=columns,
            hop=self.window or None,
            licence=LICENCES[self.what],
            config={"file": Path(self.file).name, "sha256": sha256_file(Path(self.file)), "window": self.window},
        )

    def prepare(self, dataset: Dataset, folder: Path) -> None:
        """Raises InputError if the file holds none of the dataset's recordings."""
        recordings = {row["recording"] for row in dataset.rows.select("recording").values()}
        with _Sequence(Path(self.file)) as sequence:
            if recordings.isdisjoint(sequence.videos):
                raise InputError(
                    f"{self.file} has {len(sequence.videos)} videos and none of this dataset's recordings, such as "
                    f"{min(recordings)}: it is of another corpus"
                )

    def open(self, folder: Path) -> Extract:
        """The open file, and the rows of the recording that was read last."""
        sequence = _Sequence(Path(self.file))
        dim = len(sequence.columns())
        last: dict[str, tuple[Any, Any]] = {}

        def extract(dataset: Dataset, key: str) -> Features:
            row = dataset.rows[key]
            if row["recording"] not in last:
                last.clear()
                last[row["recording"]] = sequence.read(row["recording"], dim)
            values, intervals = last[row["recording"]]
            middle = intervals.mean(axis=1)
            inside = (row["start"] <= middle) & (middle < row["end"])
            times = np.maximum(intervals[inside, 0] - row["start"], 0.0)
            order = np.argsort(times, kind="stable")
            features = Features(values=values[inside][order].astype(np.float32), times=times[order])
            if not self.window:
                return features
            # COVAREP has -inf, which one window would spread.
            return pool(replace(features, values=replace_not_finite(features.values)), self.window)

        return extract


class _Sequence:
    """An open computational sequence. Only what lies in the file itself is read, by the checks of hdf5_tables."""

    def __init__(self, path: Path) -> None:
        import h5py

        self._path = path
        try:
            self._file = h5py.File(path, "r", locking=False)
        except OSError as error:
            raise InputError(f"{path} is not a readable HDF5 file ({first_line(error)})") from None
        groups = [hdf5_tables.own_group(self._file, name) for name in self._file]
        roots = [group for group in groups if group is not None and hdf5_tables.own_group(group, "data") is not None]
        if len(roots) != 1:
            raise InputError(f"{path} is not a computational sequence: {len(roots)} groups hold `data`, expected one")
        self._root = roots[0]
        self._data = hdf5_tables.own_group(roots[0], "data")
        self.videos: dict[str, list[str]] = {}  # a file that was aligned with another has `<video>[0]`, `<video>[1]`
        for name in self._data:
            self.videos.setdefault(_PART.sub("", name), []).append(name)

    def columns(self) -> tuple[str, ...]:
        """The names of the columns, made up where the file has none."""
        if not self.videos:
            raise InputError(f"{self._path} holds no video")
        dim = int(self._table(next(iter(self.videos.values()))[0], "features").shape[1])
        names = hdf5_tables.dimensions(self._root)
        return tuple(names) if len(names) == dim else tuple(f"column_{number}" for number in range(dim))

    def read(self, video: str, dim: int) -> tuple[Any, Any]:
        """Features (n, dim) and intervals (n, 2) of a video in seconds; no rows if the file lacks it."""
        if video not in self.videos:
            return np.zeros((0, dim), np.float32), np.zeros((0, 2))
        tables = [[self._table(name, what) for what in ("features", "intervals")] for name in self.videos[video]]
        for features, intervals in tables:
            if features.shape != (len(intervals), dim) or intervals.shape[1] != 2 or features.dtype.kind not in "fiu":
                raise MesmError(
                    f"{self._path}: {video}: features {features.shape} and intervals {intervals.shape} do not fit "
                    f"{dim} columns"
                )
        values, times = (np.concatenate(parts) for parts in zip(*tables, strict=True))
        return values, np.asarray(times, np.float64)

    def _table(self, name: str, what: str) -> Any:
        try:
            return hdf5_tables.read_table(hdf5_tables.own_group(self._data, name), what, limit=MAX_TABLE)
        except (MesmError, OSError, KeyError) as error:
            raise MesmError(f"{self._path}: {name}: {first_line(error)}") from None

    def __enter__(self) -> "_Sequence":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

"""Matrices of the user's own, by key: a table (.csv, .tsv, .parquet) or arrays (.npz). DisVoice's CSVs are tables.

A table has the column `key` (or `id`: the utterance's id, or the name of its sound file), optionally `time` in seconds
of the utterance, and otherwise numbers only: one row per row of the matrix, in order.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError, first_line
from mesm_data.features.base import Description, Extract, Extractor, Features, Times, pool
from mesm_data.storage.files import sha256_file

if TYPE_CHECKING:
    import pandas as pd

KEYS, TIME = ("key", "id"), "time"
SOUNDS = (".wav", ".flac", ".mp3")
LICENCES = {
    "own": "Computed elsewhere: the terms of whoever computed them, and of the corpus, hold",
    "disvoice-csv": "Computed by DisVoice (MIT licence) from the corpus' sound: the corpus' own terms hold",
}


@dataclass(frozen=True)
class Table(Extractor):
    """The rows of a file by key. `hop`: seconds between rows of a file without times, None if that is not known."""

    file: str
    kind: str = "own"
    hop: float | None = None
    window: float = 0.0
    parallel = False

    def describe(self) -> Description:
        """Raises InputError if the file is no such table."""
        columns, features = _load(Path(self.file), self.hop)
        if self.window and any(each.times is None for each in features.values()):
            raise InputError(f"--window needs times, and {self.file} has none: add a column `time`, or give --hop")
        regular = self.hop if self.hop is not None and not self.window else self.window or None
        return Description(
            columns=columns,
            hop=regular,
            licence=LICENCES[self.kind],
            config={"sha256": sha256_file(Path(self.file)), "hop": self.hop, "window": self.window},
        )

    def prepare(self, dataset: Dataset, folder: Path) -> None:
        """Raises InputError if the file has rows of none of the dataset's utterances."""
        _, features = _load(Path(self.file), self.hop)
        ids = {name for row in dataset.rows.select("id").values() for name in (row["key"], row["id"])}
        if ids.isdisjoint(features):
            some = next(iter(features), "nothing")
            raise InputError(
                f"{self.file} has features of {len(features)} keys and of none of this dataset: it has {some!r:.60}, "
                f"the dataset {min(ids)!r:.60}"
            )

    def open(self, folder: Path) -> Extract:
        """The whole file in memory."""
        columns, features = _load(Path(self.file), self.hop)
        nothing = Features(values=np.zeros((0, len(columns)), np.float32), times=np.zeros(0))

        def extract(dataset: Dataset, key: str) -> Features:
            rows = features.get(key) or features.get(dataset.rows[key]["id"]) or nothing
            return pool(rows, self.window) if self.window else rows

        return extract


def _load(file: Path, hop: float | None) -> tuple[tuple[str, ...], dict[str, Features]]:
    if file.suffix == ".npz":
        return _arrays(file, hop)
    return _rows(file, _table(file), hop)


def _arrays(file: Path, hop: float | None) -> tuple[tuple[str, ...], dict[str, Features]]:
    """One array (n, d) or (d,) per key."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            by_key = {key: np.atleast_2d(np.asarray(arrays[key], np.float32)) for key in arrays.files}
    except Exception as error:  # what zipfile and numpy raise depends on where a file is damaged
        raise InputError(f"{file} is not an .npz file of numbers ({first_line(error)})") from None
    dims = {values.shape[1:] for values in by_key.values()}
    if len(dims) != 1 or len(next(iter(dims))) != 1:
        raise InputError(f"{file} must hold one array (rows, {{the same d}}) per key; found the shapes {sorted(dims)}")
    features = {key: Features(values=values, times=_times(len(values), hop)) for key, values in by_key.items()}
    return tuple(f"column_{number}" for number in range(next(iter(dims))[0])), features


def _rows(file: Path, table: "pd.DataFrame", hop: float | None) -> tuple[tuple[str, ...], dict[str, Features]]:
    name = next((name for name in KEYS if name in table.columns), None)
    if name is None:
        raise InputError(f"{file} has no column `key` (or `id`), which says whose features a row holds")
    columns = [column for column in table.columns if column not in (*KEYS, TIME)]
    if not columns:
        raise InputError(f"{file} has no column of numbers beside `{name}`")
    try:
        values = table[columns].to_numpy(np.float32)
        times = table[TIME].to_numpy(np.float64) if TIME in table.columns else None
    except (ValueError, TypeError) as error:
        raise InputError(f"{file}: {first_line(error)}: all columns but `{name}` must be numbers") from None
    features = {}
    for key, rows in table.groupby(table[name].astype(str), sort=False).indices.items():
        own = _times(len(rows), hop) if times is None else times[rows]
        order = np.arange(len(rows)) if own is None else np.argsort(own, kind="stable")
        features[_stem(str(key))] = Features(values=values[rows][order], times=None if own is None else own[order])
    return tuple(map(str, columns)), features


def _table(file: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        if file.suffix in (".csv", ".tsv"):
            separator = "\t" if file.suffix == ".tsv" else ","
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                return pd.read_csv(file, sep=separator, dtype=dict.fromkeys(KEYS, str), index_col=False)
    except pd.errors.ParserWarning:  # pandas would leave them out
        raise InputError(f"{file} has rows with more cells than its header has names") from None
    except Exception as error:  # of pandas or Arrow
        raise InputError(f"{file} is not a readable table ({first_line(error)})") from None
    raise InputError(f"{file}: expected a table (.csv, .tsv, .parquet) or arrays by key (.npz)")


def _times(rows: int, hop: float | None) -> Times | None:
    """Times of rows without any: one row begins with the utterance; several need a hop."""
    if hop is not None:
        return np.asarray(hop * np.arange(rows), np.float64)
    return np.zeros(rows) if rows < 2 else None


def _stem(name: str) -> str:
    """The name without the suffix of a sound file, as DisVoice's column `id` has it."""
    return name.removesuffix(next((suffix for suffix in SOUNDS if name.endswith(suffix)), ""))

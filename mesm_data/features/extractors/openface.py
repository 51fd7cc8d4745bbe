"""OpenFace's CSV files (Baltrušaitis et al., FG 2018), joined to utterances by time.

A folder holds one file per recording (RECORDING.csv), per recording and speaker (RECORDING_SPEAKER.csv: IEMOCAP has two
people in one picture) or per utterance (ID.csv or KEY.csv). Times of the first two are those of the recording.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError, first_line
from mesm_data.features.base import Description, Extract, Extractor, Features, pool
from mesm_data.storage.files import sha256_file
from mesm_data.storage.json_files import canonical_json

_UNIT = re.compile(r"AU\d\d_[rc]")
LICENCE = "OpenFace's action units: its licence is for academic and non-commercial use, and the corpus' terms hold"


@dataclass(frozen=True)
class OpenFace(Extractor):
    """The action units (17 intensities, 18 presences) of the frames in which OpenFace saw the face (success = 1)."""

    folder: str
    window: float = 0.0
    kind = "openface-csv"
    parallel = False

    def describe(self) -> Description:
        """Raises InputError if the folder holds no CSV of OpenFace."""
        files = sorted(Path(self.folder).glob("*.csv"))
        if not files:
            raise InputError(f"{self.folder} holds no .csv file: give the folder of OpenFace's output")
        columns, _, _ = _read(files[0])
        digests = {file.name: sha256_file(file) for file in files}
        return Description(
            columns=columns,
            hop=self.window or None,
            licence=LICENCE,
            config={
                "files": len(files), "sha256": sha256(canonical_json(digests)).hexdigest(), "window": self.window,
            },
        )  # fmt: skip

    def prepare(self, dataset: Dataset, folder: Path) -> None:
        """Raises InputError if no file is of one of the dataset's utterances."""
        names = {path.stem for path in Path(self.folder).glob("*.csv")}
        rows = dataset.rows.select("id", "recording", "speaker", "start").values()
        if not any(name in names for row in rows for name, _ in _names(row)):
            raise InputError(
                f"{self.folder} holds no file of this dataset: files are named RECORDING.csv, RECORDING_SPEAKER.csv or "
                f"ID.csv, and there are {min(names)}.csv and {len(names) - 1} more"
            )

    def open(self, folder: Path) -> Extract:
        """The file that was read last."""
        expected, _, _ = _read(sorted(Path(self.folder).glob("*.csv"))[0])
        last: dict[Path, tuple[tuple[str, ...], Any, Any]] = {}

        def extract(dataset: Dataset, key: str) -> Features:
            row = dataset.rows[key]
            candidates = ((Path(self.folder) / f"{name}.csv", start) for name, start in _names(row))
            file, start = next(((file, start) for file, start in candidates if file.exists()), (None, 0.0))
            if file is None:
                return Features(values=np.zeros((0, len(expected)), np.float32), times=np.zeros(0))
            if file not in last:
                last.clear()
                last[file] = _read(file)
            columns, values, times = last[file]
            if columns != expected:
                raise InputError(f"{file} has other columns of action units than the first file of {self.folder}")
            inside = (times >= start) & (times < start + row["end"] - row["start"])
            features = Features(values=values[inside], times=times[inside] - start)
            return pool(features, self.window) if self.window else features

        return extract


def _names(row: dict[str, Any]) -> list[tuple[str, float]]:
    """The names that a file of an utterance may have, and the time in it at which the utterance begins."""
    whole = [(name, row["start"]) for name in (f"{row['recording']}_{row['speaker']}", str(row["recording"]))]
    return [(row["key"], 0.0), (row["id"], 0.0), *whole]


def _read(file: Path) -> tuple[tuple[str, ...], Any, Any]:
    """The names of the action units, their values float32 (n, d) and times float64 (n,) of the frames with a face."""
    import pandas as pd

    try:
        table = pd.read_csv(file, skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is not a readable CSV file ({first_line(error)})") from None
    table.columns = table.columns.str.strip()
    units = [name for name in table.columns if _UNIT.fullmatch(name)]
    missing = [name for name in ("timestamp", "success") if name not in table.columns]
    if missing or not units:
        raise InputError(f"{file} has no column {(*missing, 'AU01_r')[0]}: run OpenFace's FeatureExtraction with -aus")
    if "face_id" in table.columns and table["face_id"].nunique() > 1:
        raise InputError(f"{file} holds several faces: write one file per speaker (RECORDING_SPEAKER.csv)")
    try:
        seen = table.loc[table["success"].astype(int) == 1].sort_values("timestamp", kind="stable")
        return tuple(units), seen[units].to_numpy(np.float32), seen["timestamp"].to_numpy(np.float64)
    except ValueError as error:
        raise InputError(f"{file}: {first_line(error)}: expected numbers") from None

"""Packs the finished parts of a feature set into values.tar, index.parquet and features.json."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.manifest import write_table
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.tar import SampleWriter
from mesm_data.errors import MesmError
from mesm_data.features import feature_set
from mesm_data.features.base import Description, Extractor, Features, replace_not_finite
from mesm_data.storage.files import atomic_write, sha256_file
from mesm_data.storage.json_files import write_json


@dataclass(frozen=True, slots=True)
class Job:
    """One part: the utterances `keys` of the dataset in the folder `dataset`, into `parts`/`name`."""

    dataset: str
    root: str
    extractor: Extractor
    parts: str
    name: str
    keys: tuple[str, ...]


def read_part(job: Job) -> list[Features]:
    """The features of a part's utterances. Raises OSError, KeyError, ValueError or BadZipFile if it is not whole."""
    with np.load(Path(job.parts) / job.name, allow_pickle=False) as arrays:
        names = set(arrays.files)
        return [
            Features(
                values=arrays[f"{number}.values"],
                times=arrays[f"{number}.times"] if f"{number}.times" in names else None,
            )
            for number in range(len(job.keys))
        ]


def pack_parts(
    out: Path, name: str, extractor: Extractor, description: Description, digest: str, dataset: Dataset, jobs: list[Job]
) -> None:
    """Write values.tar, index.parquet and features.json from the finished parts."""
    rows: list[dict[str, Any]] = []
    replaced, dim = 0, len(description.columns)
    with atomic_write(out / "values.tar") as file, SampleWriter(file) as tar:
        for job in jobs:
            for key, features in zip(job.keys, read_part(job), strict=True):
                values = features.values
                if values.dtype != np.float32 or values.ndim != 2 or values.shape[1] != dim:
                    raise MesmError(f"{extractor.kind}: {key}: {values.dtype} {values.shape}, expected (n, {dim})")
                replaced += int((~np.isfinite(values)).sum())
                data = feature_set.encode_values(replace_not_finite(values))
                offset = tar.write(key, {"npy": data})["npy"]
                rows.append(
                    {
                        "key": key, "offset": offset, "size": len(data), "sha256": sha256(data).hexdigest(),
                        "rows": len(values), **_times(key, features, description.hop),
                    }
                )  # fmt: skip
    empty = sum(row["rows"] == 0 for row in rows)
    index = write_table(out / "index.parquet", rows, feature_set.SCHEMA)
    tar_file = out / "values.tar"
    tar_facts = {"size": tar_file.stat().st_size, "sha256": sha256_file(tar_file)}
    counts = {
        "utterances": len(rows), "rows": sum(row["rows"] for row in rows), "empty": empty, "not_finite": replaced,
    }  # fmt: skip
    info = {
        "features": feature_set.FORMAT, "name": name, "kind": extractor.kind, "dataset": dataset.info["root"],
        "corpus": dataset.info["corpus"], "synthetic": dataset.info["synthetic"],
        "columns": list(description.columns), "hop": description.hop, "licence": description.licence,
        "config": description.config, "libraries": description.libraries, "digest": digest, "counts": counts,
        "index": index, "tar": tar_facts, **extractor.extra(Path(jobs[0].parts) / "shared" if jobs else out),
    }  # fmt: skip
    write_json(out / "features.json", info)


def _times(key: str, features: Features, hop: float | None) -> dict[str, Any]:
    """`start` and `times` of an utterance's row in the index."""
    times, count = features.times, len(features.values)
    if times is None or not count:
        return {"start": None, "times": None}
    if len(times) != count or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise MesmError(f"the features of {key} have {count} rows and times that do not fit them, or do not increase")
    if hop is not None and np.abs(times - (times[0] + hop * np.arange(count))).max() <= 1e-6:
        return {"start": float(times[0]), "times": None}
    return {"start": float(times[0]), "times": times.tolist()}

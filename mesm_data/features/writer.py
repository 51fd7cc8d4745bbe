"""Computes a feature set: one part per chunk of recordings, then all parts in one file. Safe to interrupt.

State on disk: DIR/features/<name>/.parts/config.json (what is computed), .parts/shared/ (what all utterances need) and
.parts/<number>.npz (what is done). features.json is written last.
"""

import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError, MesmError
from mesm_data.features import feature_set
from mesm_data.features.base import Extract, Extractor
from mesm_data.features.feature_set import FeatureSet
from mesm_data.features.pack import Job, pack_parts, read_part
from mesm_data.storage.file_locks import folder_lock
from mesm_data.storage.files import atomic_write
from mesm_data.storage.json_files import read_json, write_json
from mesm_data.storage.progress import Step, no_step

CHUNK = 64  # utterances of a part, at least: recordings stay whole, because a file per recording is read once


Run = Callable[[Callable[[Job], None], Sequence[Job]], Iterator[tuple[Job, object]]]


def in_process(function: Callable[[Job], None], jobs: Sequence[Job]) -> Iterator[tuple[Job, object]]:
    """One job after the other, here."""
    for job in jobs:
        function(job)
        yield job, None


def write_features(
    dataset: Dataset,
    extractor: Extractor,
    name: str,
    *,
    run: Run = in_process,
    overwrite: bool = False,
    step: Step = no_step,
) -> FeatureSet:
    """Compute the feature set `name` of a dataset, or continue where a stopped call ended.

    Args:
        dataset: All utterances that were built get an entry, with 0 rows where the extractor has none.
        extractor: What computes them.
        name: The folder's name below DIR/features.
        run: Applies a function to jobs, in any order and in any process; yields each job with its result, which is an
            exception if the process died.
        overwrite: Replaces a set of that name with other settings.
        step: Is called with the number of utterances of each part that is done.

    Raises:
        InputError: The name is taken by a set with other settings, or the extractor lacks a library or a file.
        MesmError: A worker died, or there is no room.
    """
    if not feature_set.NAME.fullmatch(name):
        raise InputError(f"--name {name!r}: expected up to 60 letters, digits, - and _")
    description = extractor.describe()
    root = dataset.info["root"]
    digest = feature_set.config_digest(extractor.kind, description.config, description.libraries, root)
    out = dataset.path / feature_set.FOLDER / name
    parts = out / ".parts"
    _opened.cache_clear()  # in this process, it may hold what an extractor read of a file that has changed since
    with folder_lock(parts / "lock"):
        try:
            finished = _is_finished(dataset, out, digest, overwrite=overwrite)
            if not finished:
                _open_parts(parts, digest)
                _prepare(extractor, dataset, parts)
        except InputError:
            shutil.rmtree(parts)
            with suppress(OSError):  # it holds a finished set
                out.rmdir()
            raise
        if finished:
            shutil.rmtree(parts)
            return feature_set.open_set(dataset.path, name)
        jobs = [
            Job(str(dataset.path), root, extractor, str(parts), f"{number:06d}.npz", keys)
            for number, keys in enumerate(_chunks(dataset))
        ]
        for job, result in run(compute_part, [job for job in jobs if not _is_done(job, step)]):
            if isinstance(result, Exception):
                raise MesmError(
                    f"{extractor.kind}: {result} on the utterances {job.keys[0]} to {job.keys[-1]}. The same command "
                    "resumes"
                )
            step(len(job.keys))
        pack_parts(out, name, extractor, description, digest, dataset, jobs)
        shutil.rmtree(parts)
    return feature_set.open_set(dataset.path, name)


def _is_finished(dataset: Dataset, out: Path, digest: str, *, overwrite: bool) -> bool:
    """Whether the set is there already. Raises InputError if another one is, and may not be replaced."""
    file = out / "features.json"
    if not file.exists():
        return False
    info = read_json(file)
    if isinstance(info, dict) and info.get("digest") == digest:
        if not overwrite:
            return True
    elif not overwrite:
        raise InputError(
            f"{out} holds features of other settings, of another version of a library, or of another dataset: "
            "--overwrite replaces them, --name gives these another name"
        )
    file.unlink()
    return False


def _open_parts(parts: Path, digest: str) -> None:
    """Keep the parts of a stopped call with the same settings, delete those of any other."""
    config = parts / "config.json"
    if config.exists() and read_json(config) == {"digest": digest}:
        return
    for path in parts.iterdir():
        if path.name != "lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_json(config, {"digest": digest})


def _prepare(extractor: Extractor, dataset: Dataset, parts: Path) -> None:
    """What all utterances need, in .parts/shared, if a stopped call has not finished that."""
    if (parts / "shared.done").exists():
        return
    shutil.rmtree(parts / "shared", ignore_errors=True)
    (parts / "shared").mkdir()
    extractor.prepare(dataset, parts / "shared")
    with atomic_write(parts / "shared.done"):
        pass


def _chunks(dataset: Dataset) -> list[tuple[str, ...]]:
    """The utterances by recording and time, at least CHUNK in each chunk but the last."""
    rows = dataset.rows.select("recording", "start")
    built_keys = set(dataset.keys)
    recordings: dict[str, list[tuple[float, str]]] = {}
    for key, recording, start in zip(rows, rows.column("recording"), rows.column("start"), strict=True):
        if key in built_keys:
            recordings.setdefault(recording or "", []).append((start, key))
    chunks, chunk = [], list[str]()
    for _, utterances in sorted(recordings.items()):
        chunk += [key for _, key in sorted(utterances)]
        if len(chunk) >= CHUNK:
            chunks.append(tuple(chunk))
            chunk = []
    return [*chunks, tuple(chunk)] if chunk else chunks


def compute_part(job: Job) -> None:
    """Compute one part and write it."""
    dataset, extract = _opened(job.dataset, job.root, job.extractor, job.parts)
    arrays: dict[str, Any] = {}
    for number, key in enumerate(job.keys):
        features = extract(dataset, key)
        arrays[f"{number}.values"] = features.values
        if features.times is not None:
            arrays[f"{number}.times"] = features.times
    with atomic_write(Path(job.parts) / job.name) as file:
        np.savez(file, **arrays)


@lru_cache(maxsize=1)
def _opened(path: str, root: str, extractor: Extractor, parts: str) -> tuple[Dataset, Extract]:
    dataset = Dataset(path, check=True)
    if dataset.info["root"] != root:
        raise InputError(f"{path} holds another dataset than when this command began")
    return dataset, extractor.open(Path(parts) / "shared")


def _is_done(job: Job, step: Step) -> bool:
    try:
        read_part(job)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return False
    step(len(job.keys))
    return True

"""A dataset on disk: dataset.json, manifest.parquet, shards/, video/. Written once, in an order that readers can trust.

OUT/failures.csv          what was lost, if anything was
OUT/dataset.json          written last; a reader refuses a format that it does not know
OUT/manifest.parquet      one row per utterance of the corpus
OUT/shards/*.tar          the model view
OUT/video/*.tar           clips, the same keys in the same order; OUT/video/index.parquet says where each lies
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from mesm_data.dataset.failures import write_failures
from mesm_data.dataset.hf_features import hf_features
from mesm_data.dataset.manifest import clip_index_schema, manifest_schema, read_table, rows_digest, write_table
from mesm_data.dataset.pack import pack_parts
from mesm_data.dataset.validation import STATUSES, validate_clip_index, validate_info, validate_manifest
from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.storage.json_files import canonical_json, read_json, write_json

SHARD_FORMAT = 2


def write_dataset(
    out: Path,
    parts: Path,
    rows: list[dict[str, Any]],
    facts: dict[str, Any],
    *,
    limit: int,
    step: Callable[[int], object],
) -> dict[str, Any]:
    """Pack `rows` into a dataset. Returns what dataset.json says: `facts`, counts, digests and the root.

    `step` is called with the number of samples in each shard that is done.
    """
    shards, videos = pack_parts(parts, out, rows, limit=limit, step=step)
    remove_other_files(out / "shards", set(shards))
    remove_other_files(out / "video", {*videos, "index.parquet"} if videos else set())
    corpus = schema_from_info(out, facts)
    table = write_table(out / "manifest.parquet", rows, manifest_schema(corpus))
    if videos:
        clips = [{"key": row["key"], "shard": row["shard"], **row["clip"]} for row in rows if "clip" in row]
        write_table(out / "video" / "index.parquet", clips, clip_index_schema())
    write_failures(out, rows)
    said = {
        "format": SHARD_FORMAT,
        **facts,
        "counts": {"total": len(rows), **dict.fromkeys(STATUSES, 0), **Counter(row["status"] for row in rows)},
        "manifest": {"rows": len(rows), "sha256": table},
        "shards": shards,
        "video": videos,
        "features": hf_features(corpus, facts["recipe"]["face_size"]),
        "root": dataset_root(table, shards),
    }
    write_json(out / "dataset.json", said)
    return said


def schema_from_info(path: Path, info: Mapping[str, Any]) -> CorpusSchema:
    """The corpus' schema in `info`, the content of dataset.json in `path`. Raises InputError if it is not sound."""
    return CorpusSchema.parse(info.get("schema") or {}, f"{path / 'dataset.json'}: schema")


def dataset_root(table: str, shards: dict[str, Any]) -> str:
    """The digest that names a dataset: over the manifest's table and the bytes of every shard (not of the clips)."""
    files = {name: shard["sha256"] for name, shard in shards.items()}
    return sha256(canonical_json({"manifest": table, "shards": files})).hexdigest()


def read_dataset_info(path: Path) -> dict[str, Any]:
    """dataset.json of the dataset in `path`. Raises InputError if there is none, or of another format."""
    if not path.is_dir():
        raise InputError(
            f"{path} is not a folder: give the folder that `mesm-data build` wrote (with dataset.json in it)"
        )
    if not (path / "dataset.json").exists():
        begun = (
            " A build was begun here and has not ended: run the same build command again."
            if (path / ".build").exists()
            else ""
        )
        raise InputError(f"{path} holds no dataset.json, so it is not a dataset.{begun}")
    said = read_json(path / "dataset.json")
    if not isinstance(said, dict) or "format" not in said:
        raise InputError(f"{path / 'dataset.json'} does not describe a dataset of mesm")
    if type(said["format"]) is not int or said["format"] != SHARD_FORMAT:
        raise InputError(
            f"{path} has shard format {said['format']}; this version of mesm reads format {SHARD_FORMAT}. "
            "Install the version of mesm that wrote it, or build it anew"
        )
    validate_info(path / "dataset.json", said)
    return said


def read_manifest(path: Path, said: Mapping[str, Any]) -> pa.Table:
    """The manifest of the dataset in `path`, of which dataset.json says `said`. InputError if the two do not agree."""
    found = read_table(path / "manifest.parquet", manifest_schema(schema_from_info(path, said)))
    validate_manifest(path / "manifest.parquet", found, said)
    return found


def check_dataset_root(path: Path, said: Mapping[str, Any], rows: Iterable[dict[str, Any]], remedy: str) -> None:
    """Raises InputError, with `remedy`, unless `rows` are the manifest that the root in dataset.json (`said`) names.

    Takes 0.06 ms a row: the labels that are read are then those of the dataset that the root stands for.
    """
    if (found := rows_digest(rows)) != said["manifest"]["sha256"]:
        raise InputError(
            f"{path / 'manifest.parquet'} is not the table that dataset.json names (sha256 {found}, expected "
            f"{said['manifest']['sha256']}), so labels or other rows were changed; {remedy}"
        )
    if (found := dataset_root(said["manifest"]["sha256"], said["shards"])) != said["root"]:
        raise InputError(
            f"{path / 'dataset.json'} contradicts itself: its root is {said['root']}, its files give {found}; {remedy}"
        )


def read_manifest_rows(path: Path, said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`table` as dictionaries."""
    return list(read_manifest(path, said).to_pylist())


def read_clip_index(path: Path, said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where the clips of the dataset in `path` lie: rows of video/index.parquet. InputError as `table`."""
    found = read_table(path / "video" / "index.parquet", clip_index_schema())
    validate_clip_index(path / "video" / "index.parquet", found, said)
    return list(found.to_pylist())


def remove_other_files(folder: Path, keep: set[str]) -> None:
    """Delete what an earlier, stopped attempt left in a folder of ours."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in keep:
                path.unlink()
        if not keep:
            folder.rmdir()

"""A dataset on disk. Its files are written once, in this order, dataset.json last.

OUT/shards/*.tar          the samples
OUT/video/*.tar           the clips, with the same keys in the same order
OUT/manifest.parquet      one row per utterance of the corpus
OUT/video/index.parquet   the position of each clip
OUT/failures.csv          what is missing, if anything is
OUT/dataset.json          the description; a reader refuses a format that it does not know
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from mesm_data.dataset.failures import write_failures
from mesm_data.dataset.hf_features import hf_features
from mesm_data.dataset.info import SHARD_FORMAT, STATUSES, validate_info
from mesm_data.dataset.manifest import clip_index_schema, manifest_schema, read_table, rows_digest, write_table
from mesm_data.dataset.pack import pack_parts
from mesm_data.dataset.validation import validate_clip_index, validate_manifest
from mesm_data.errors import InputError, MesmError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.storage.files import open_regular_file
from mesm_data.storage.json_files import canonical_json, read_json, write_json
from mesm_data.storage.progress import Step


def write_dataset(
    out: Path,
    parts: Path,
    rows: list[dict[str, Any]],
    facts: dict[str, Any],
    *,
    limit: int,
    step: Step,
) -> dict[str, Any]:
    """Pack parts into a dataset.

    Args:
        out: The folder of the dataset.
        parts: The folder of the parts.
        rows: One row per utterance, sorted by key; see `pack_parts`.
        facts: What dataset.json says of the build: recipe, source, schema, ...
        limit: The bytes of a shard.
        step: Is called with the number of samples in each shard that is done.

    Returns:
        The content of dataset.json: `facts`, counts, digests and the root.
    """
    shards, videos = pack_parts(parts, out, rows, limit=limit, step=step)
    remove_other_files(out / "shards", set(shards))
    remove_other_files(out / "video", {*videos, "index.parquet"} if videos else set())
    corpus = schema_from_info(out, facts)
    table_digest = write_table(out / "manifest.parquet", rows, manifest_schema(corpus))
    if videos:
        clips = [{"key": row["key"], "shard": row["shard"], **row["clip"]} for row in rows if "clip" in row]
        write_table(out / "video" / "index.parquet", clips, clip_index_schema())
    write_failures(out, rows)
    info = {
        "format": SHARD_FORMAT,
        **facts,
        "counts": {"total": len(rows), **dict.fromkeys(STATUSES, 0), **Counter(row["status"] for row in rows)},
        "manifest": {"rows": len(rows), "sha256": table_digest},
        "shards": shards,
        "video": videos,
        "features": hf_features(corpus, facts["recipe"]["face_size"]),
        "root": dataset_root(table_digest, shards),
    }
    write_json(out / "dataset.json", info)
    return info


def schema_from_info(path: Path, info: Mapping[str, Any]) -> CorpusSchema:
    """The corpus' schema in dataset.json. Raises InputError if it is not valid.

    Args:
        path: The folder of the dataset.
        info: The content of dataset.json.
    """
    return CorpusSchema.parse(info.get("schema") or {}, f"{path / 'dataset.json'}: schema")


def dataset_root(table_digest: str, shards: Mapping[str, Any]) -> str:
    """The digest that identifies a dataset: over the rows of its manifest and the bytes of its shards."""
    files = {name: shard["sha256"] for name, shard in shards.items()}
    return sha256(canonical_json({"manifest": table_digest, "shards": files})).hexdigest()


def read_dataset_info(path: Path) -> dict[str, Any]:
    """Read dataset.json of the dataset in the folder `path`.

    Raises:
        InputError: There is no dataset, it has another format, or the file is not valid.
    """
    if not path.is_dir():
        raise InputError(
            f"{path} is not a folder: give the folder that `mesm-data build` wrote (with dataset.json in it)"
        )
    file = path / "dataset.json"
    if not file.exists():
        hint = ""
        if (path / ".build").exists():
            hint = " A build was begun here and has not ended: run the same build command again."
        raise InputError(f"{path} holds no dataset.json, so it is not a dataset.{hint}")
    return validate_info(read_json(file), str(file))


def read_manifest(path: Path, info: Mapping[str, Any]) -> pa.Table:
    """Read the manifest of a dataset. Raises InputError if it does not match dataset.json.

    Args:
        path: The folder of the dataset.
        info: The content of dataset.json.
    """
    table = read_table(path / "manifest.parquet", manifest_schema(schema_from_info(path, info)))
    validate_manifest(path / "manifest.parquet", table, info)
    return table


def read_manifest_rows(path: Path, info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of `read_manifest` as dictionaries."""
    return list(read_manifest(path, info).to_pylist())


def read_clip_index(path: Path, info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read the rows of video/index.parquet, the positions of the clips. Raises as `read_manifest`."""
    table = read_table(path / "video" / "index.parquet", clip_index_schema())
    validate_clip_index(path / "video" / "index.parquet", table, info)
    return list(table.to_pylist())


def read_clip(path: Path, row: Mapping[str, Any]) -> bytes:
    """The bytes of a clip, by its row of `read_clip_index`. Raises MesmError if its shard ends before them."""
    file = path / "video" / row["shard"]
    with open_regular_file(file) as shard:
        if row["offset"] + row["size"] > shard.seek(0, 2):
            raise MesmError(f"{file} ends inside the clip of {row['key']}")
        shard.seek(row["offset"])
        return shard.read(row["size"])


def check_dataset_root(path: Path, info: Mapping[str, Any], rows: Iterable[dict[str, Any]], hint: str) -> None:
    """Check that the rows of the manifest are those that the root in dataset.json stands for. Takes 0.06 ms per row.

    Args:
        path: The folder of the dataset.
        info: The content of dataset.json.
        rows: The rows of the manifest.
        hint: What the user can do, for messages.

    Raises:
        InputError: Labels or other values were changed.
    """
    if (digest := rows_digest(rows)) != info["manifest"]["sha256"]:
        raise InputError(
            f"{path / 'manifest.parquet'} is not the table that dataset.json names (sha256 {digest}, expected "
            f"{info['manifest']['sha256']}), so labels or other rows were changed; {hint}"
        )
    if (root := dataset_root(info["manifest"]["sha256"], info["shards"])) != info["root"]:
        raise InputError(
            f"{path / 'dataset.json'} contradicts itself: its root is {info['root']}, its files give {root}; {hint}"
        )


def remove_other_files(folder: Path, keep: set[str]) -> None:
    """Delete what an earlier, interrupted attempt left in a folder of the dataset."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in keep:
                path.unlink()
        if not keep:
            folder.rmdir()

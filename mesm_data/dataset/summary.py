"""What is in a dataset, counted from its manifest alone."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.dataset_dir import check_dataset_root, read_dataset_info, read_manifest_rows, schema_from_info
from mesm_data.dataset.shard_store import LocalShards
from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.splits.resolve import Split, resolve_all_splits


def inspect(path: Path) -> dict[str, Any]:
    """Counts by status, label, speaker and modality, durations, detection rate, what is missing and why, splits.

    Durations are in seconds. Raises InputError if `path` is not a dataset, or the manifest is not that of its root.
    """
    import pandas as pd

    info = read_dataset_info(path)
    schema = schema_from_info(path, info)
    table = read_manifest_rows(path, info)
    check_dataset_root(path, info, table, LocalShards(path / "shards").repair_hint("manifest.parquet"))
    rows = pd.DataFrame(table)
    if rows.empty:
        raise InputError(f"{path / 'manifest.parquet'} has no rows")
    built = rows[rows["status"] == "ok"]
    seconds = built["n_samples"].astype(float) / info["recipe"]["sample_rate"]
    faces = int(built["n_faces"].sum())
    return {
        "corpus": info["corpus"],
        "synthetic": info["synthetic"],
        "format": info["format"],
        "root": info["root"],
        "counts": info["counts"],
        "shards": len(info["shards"]),
        "bytes": sum(shard["size"] for shard in info["shards"].values()),
        "clip_bytes": sum(shard["size"] for shard in info["video"].values()),
        "labels": label_counts(built["labels"], schema),
        "views": view_counts(built["labels"], schema),
        "speakers": count(built["speaker"]),
        "audio": count(built["audio"]),
        "video": count(built["video"]),
        "seconds": {
            "total": round(float(seconds.sum()), 1),
            "mean": round(float(seconds.mean()), 2) if len(built) else None,
            "shortest": round(float(seconds.min()), 2) if len(built) else None,
            "longest": round(float(seconds.max()), 2) if len(built) else None,
        },
        "faces": faces,
        "detection_rate": round(float(built["n_detected"].sum()) / faces, 4) if faces else None,
        "words_aligned": int(built["n_words"].notna().sum()),
        "flags": count(built["flags"].explode().dropna()),
        "reasons": count(reasons(rows[rows["status"] != "ok"])),
        "incomplete": count(reasons(built)),
        "splits": splits(table, schema),
        "notes": info["notes"],
        "findings": info.get("findings", []),
    }


def label_counts(labels: Any, schema: CorpusSchema) -> dict[str, Any]:
    """By label scheme: how often each category occurs, or mean and range of a number, and how often there is none."""
    import pandas as pd

    result: dict[str, Any] = {}
    for name, scheme in schema.labels.items():
        values = pd.Series([record[name] for record in labels], dtype=object)
        missing = int(values.isna().sum())
        if scheme.type == "number":
            numbers = values.dropna().astype(float)
            entry: dict[str, float | int | None] = {
                "mean": round(float(numbers.mean()), 4) if len(numbers) else None,
                "minimum": float(numbers.min()) if len(numbers) else None,
                "maximum": float(numbers.max()) if len(numbers) else None,
            }
        else:
            entry = dict(count(values.explode().dropna()))
        result[name] = {**entry, **({"no label": missing} if missing else {})}
    return result


def view_counts(labels: Any, schema: CorpusSchema) -> dict[str, Any]:
    """By view: how many utterances are in it, and by class how many are of it (shares: the sum, numbers: the mean)."""
    result: dict[str, Any] = {}
    for name in schema.views:
        view = schema.view(name)
        targets = [target for record in labels if (target := view.target(record)) is not None]
        total = np.stack(targets).sum(axis=0, dtype=np.float64) if targets else np.zeros(len(view.classes))
        scale = max(len(targets), 1) if view.task == "number" else 1
        classes = {label: round(float(value) / scale, 4) for label, value in zip(view.classes, total, strict=True)}
        result[name] = {"task": view.task, "utterances": len(targets), "classes": classes}
    return result


def splits(rows: Iterable[dict[str, Any]], schema: CorpusSchema) -> dict[str, Any]:
    """Every split that is known of the corpus: its summary, or {"reason": why it cannot be made of these rows}."""
    resolved = resolve_all_splits(rows, schema)
    return {name: one.summary() if isinstance(one, Split) else {"reason": one} for name, one in resolved.items()}


def reasons(rows: Any) -> Any:
    """The reasons in rows without what is particular to an utterance, so that equal ones can be counted."""
    import pandas as pd

    explained = rows[rows["reason"].notna()]
    general = [
        replace_name(replace_name(reason, key, "<id>"), dialog, "<dialog>")
        for key, dialog, reason in zip(explained["key"], explained["dialog"], explained["reason"], strict=True)
    ]
    return pd.Series(general, dtype=object)


def replace_name(text: str, name: str, by: str) -> str:
    """Replace a name where it is not a part of a word or of a number; a number, only where it is in a file's name."""
    if name not in text:
        return text
    end = r"(?=/|\.[A-Za-z])" if name.isdecimal() else r"(?![A-Za-z0-9]|\.[0-9])"
    return re.sub(rf"(?<![A-Za-z0-9.]){re.escape(name)}{end}", by, text)


def count(values: Any) -> dict[str, int]:
    """Value -> how often, most frequent first, then by name."""
    result = values.value_counts().to_dict()
    return {str(name): int(result[name]) for name in sorted(result, key=lambda name: (-result[name], str(name)))}

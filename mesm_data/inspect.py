"""What is in a dataset, counted from its manifest alone."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.shards import dataset
from mesm_data.shards.store import LocalShards
from mesm_data.splits import Split, available


def inspect(path: Path) -> dict[str, Any]:
    """Counts by status, label, speaker and modality, durations, detection rate, what is missing and why, splits.

    Durations are in seconds. Raises InputError if `path` is not a dataset, or the manifest is not that of its root.
    """
    import pandas as pd

    said = dataset.describe(path)
    table = dataset.rows(path, said)
    dataset.check_root(path, said, table, LocalShards(path / "shards").remedy("manifest.parquet"))
    rows = pd.DataFrame(table)
    if rows.empty:
        raise InputError(f"{path / 'manifest.parquet'} has no rows")
    built = rows[rows["status"] == "ok"]
    seconds = built["n_samples"].astype(float) / 16_000
    faces = int(built["n_faces"].sum())
    return {
        "corpus": said["corpus"],
        "synthetic": said["synthetic"],
        "format": said["format"],
        "root": said["root"],
        "counts": said["counts"],
        "shards": len(said["shards"]),
        "bytes": sum(shard["size"] for shard in said["shards"].values()),
        "clip_bytes": sum(shard["size"] for shard in said["video"].values()),
        "labels": count(built["labels"].map(label_names).explode()),
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
        "splits": splits(table, said["corpus"]),
        "notes": said["notes"],
    }


def label_names(labels: Mapping[str, Any]) -> list[str]:
    """What is counted of an utterance's labels: its label, or each of the emotions that are present (mean above 0)."""
    emotions = labels.get("emotions")
    if emotions is None or all(mean is None for mean in emotions.values()):
        return [labels.get("label") or "no label"]
    return [name for name, mean in emotions.items() if mean is not None and mean > 0] or ["no emotion"]


def splits(rows: Iterable[dict[str, Any]], corpus: str) -> dict[str, Any]:
    """Every split that is known of the corpus: its summary, or {"reason": why it cannot be made of these rows}."""
    made = available(rows, corpus)
    return {name: one.summary() if isinstance(one, Split) else {"reason": one} for name, one in made.items()}


def reasons(rows: Any) -> Any:
    """The reasons in rows without what is particular to an utterance, so that equal ones can be counted."""
    import pandas as pd

    said = rows[rows["reason"].notna()]
    general = [
        reason.replace(key, "<id>").replace(dialog, "<dialog>")
        for key, dialog, reason in zip(said["key"], said["dialog"], said["reason"], strict=True)
    ]
    return pd.Series(general, dtype=object)


def count(values: Any) -> dict[str, int]:
    """Value -> how often, most frequent first, then by name."""
    found = values.value_counts().to_dict()
    return {str(name): int(found[name]) for name in sorted(found, key=lambda name: (-found[name], str(name)))}

"""One self-contained page about a dataset: counts, durations, features, splits, leaks, failures, a gallery."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.dataset_dir import read_manifest_rows
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.summary import inspect
from mesm_data.features.summary import summarise_features
from mesm_data.pages.media import face_strip, sound_uri
from mesm_data.pages.page import render
from mesm_data.publishing import facts
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.storage.files import atomic_write

GALLERY = 12  # utterances
MAX_ROWS = 20  # of a table
DURATION_EDGES = (0.0, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, float("inf"))
WORD_EDGES = (0, 1, 2, 3, 5, 8, 12, 16, 20, 30, 40, float("inf"))


def write_dataset_page(path: Path, out: Path, *, media: bool = True) -> Path:
    """Describe the dataset in `path` on the page `out`.

    Args:
        path: the dataset's folder.
        out: the page.
        media: with a gallery of faces, sound and transcripts.

    Raises:
        InputError: `path` is not a dataset.
    """
    with atomic_write(out) as file:
        file.write(render_dataset(path, media=media).encode())
    return out


def render_dataset(path: Path, *, media: bool = True) -> str:
    """The page of the dataset in `path`."""
    dataset = Dataset(path)
    info, schema, summary = dataset.info, dataset.schema, inspect(path)
    rows = [row for row in read_manifest_rows(path, info) if row["status"] == "ok"]
    rate = info["recipe"]["sample_rate"]
    return render(
        "mesm_data.publishing",
        "dataset.html",
        info=info,
        schema=schema,
        licence=schema.licence.model_dump(),
        summary=summary,
        features=summarise_features(path),
        titles={value: title for scheme in schema.labels.values() for value, title in scheme.values.items() if title},
        durations=histogram([row["n_samples"] / rate for row in rows], DURATION_EDGES, "s"),
        words=histogram([row["n_words"] for row in rows if row["n_words"] is not None], WORD_EDGES, ""),
        speakers=speaker_rows(rows, rate),
        views=[view_rows(name, summary["views"][name], rows, schema) for name in summary["views"]],
        texts=[
            ("Collection", facts.collection(info, schema)),
            ("Processing", facts.preprocessing(info)),
            ("Labels", facts.annotation(schema)),
            ("Missing data", facts.missing(summary)),
            ("Limitations", facts.limitations(summary)),
            ("Personal information", facts.personal_information(info)),
        ],
        gallery=gallery(dataset, schema) if media else [],
        media=media,
        max_rows=MAX_ROWS,
        command=f"mesm-train run demo-mesm --data {path.resolve().name}",
    )


def histogram(values: Iterable[float], edges: Sequence[float], unit: str) -> list[dict[str, Any]]:
    """How many values lie between two neighbouring edges; empty bins at both ends are left out."""
    numbers = np.asarray(list(values), np.float64)
    counts = [int(((numbers >= low) & (numbers < high)).sum()) for low, high in pairwise(edges)]
    used = [index for index, count in enumerate(counts) if count]
    largest = max(counts, default=1) or 1
    return [
        {"name": _range(edges[index], edges[index + 1], unit), "count": counts[index], "share": counts[index] / largest}
        for index in (range(used[0], used[-1] + 1) if used else ())
    ]


def _range(low: float, high: float, unit: str) -> str:
    end = " and more" if high == float("inf") else f" to {high:g}"
    return f"{low:g}{end} {unit}".strip()


def speaker_rows(rows: Sequence[Mapping[str, Any]], rate: int) -> list[dict[str, Any]]:
    """By speaker: utterances, seconds and the share of detected faces; the most frequent first."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["speaker"] or "not known", []).append(row)
    table = []
    for name in sorted(groups, key=lambda name: (-len(groups[name]), name)):
        own = groups[name]
        faces = sum(row["n_faces"] for row in own)
        detected = sum(row["n_detected"] for row in own)
        seconds = sum(row["n_samples"] for row in own) / rate
        table.append(
            {"name": name, "count": len(own), "seconds": seconds, "detected": detected / faces if faces else None}
        )
    return table


def view_rows(
    name: str, view: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], schema: CorpusSchema
) -> dict[str, Any]:
    """The classes of a label view with their counts, by part of the published split where the corpus has one."""
    classes, resolved = view["classes"], schema.view(name)
    parts = sorted({row["split"] for row in rows if row["split"]})
    by_part = {part: np.zeros(len(resolved.classes)) for part in parts}
    for row in rows if parts else ():
        target = resolved.target(row["labels"])
        if target is not None and row["split"]:
            by_part[row["split"]] += target
    largest = max((abs(count) for count in classes.values()), default=0) or 1
    return {
        "name": name,
        "task": view["task"],
        "utterances": view["utterances"],
        "parts": parts,
        "rows": [
            {
                "name": label,
                "count": count,
                "share": abs(count) / largest,
                "percent": count / view["utterances"] if view["utterances"] else None,
                "parts": [by_part[part][index] for part in parts],
            }
            for index, (label, count) in enumerate(classes.items())
        ],
    }


def gallery(dataset: Dataset, schema: CorpusSchema) -> list[dict[str, Any]]:
    """Some utterances with media: of each value of the first category one with all modalities, then another.

    The order is that of a digest of the keys, so the choice does not follow the order of speakers.
    """
    label = next((name for name, scheme in schema.labels.items() if scheme.type == "category"), None)
    complete = [key for key in dataset.keys if dataset.rows[key]["n_faces"] and dataset.rows[key]["n_samples"]]
    by_value: dict[Any, list[str]] = {}
    for key in sorted(complete or dataset.keys, key=lambda key: sha256(key.encode()).digest()):
        by_value.setdefault(dataset.rows[key]["labels"].get(label) if label else None, []).append(key)
    rounds = [keys[number] for number in range(GALLERY) for keys in by_value.values() if number < len(keys)]
    return [utterance_view(dataset, key) for key in rounds[:GALLERY]]


def utterance_view(dataset: Dataset, key: str) -> dict[str, Any]:
    """Faces, sound, transcript and labels of one utterance, for the templates."""
    sample, row = dataset[key], dataset.rows[key]
    labels = {name: value for name, value in row["labels"].items() if name != "raters" and value is not None}
    return {
        "key": key,
        "speaker": row["speaker"],
        "seconds": len(sample.samples) / sample.sample_rate,
        "faces": face_strip(sample.faces),
        "sound": sound_uri(sample.samples, sample.sample_rate),
        "text": sample.text.strip(),
        "labels": [(name, ", ".join(value) if isinstance(value, list) else value) for name, value in labels.items()],
        "flags": row["flags"],
    }

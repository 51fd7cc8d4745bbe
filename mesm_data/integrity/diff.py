"""What differs between two datasets: utterances, labels, transcripts, sound and faces, from their manifests alone.

Sound, faces and transcripts are compared by their digests, so no shard is read: two releases of a corpus, or builds
with different options, are compared in seconds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.dataset.dataset_dir import read_dataset_info, read_manifest_rows

# What is compared -> the manifest's columns.
ASPECTS = {
    "status": ("status",),
    "time": ("recording", "start", "end"),
    "speaker": ("dialog", "speaker", "session", "split"),
    "text": ("text_sha256",),
    "sound": ("pcm_sha256",),
    "faces": ("pixels_sha256",),
    "words": ("n_words",),
    "flags": ("flags",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One respect in which an utterance differs. `first` and `second`: the values, None where it is not there."""

    key: str
    aspect: str  # only in one of them: "utterance"; else a name of ASPECTS, or "label NAME"
    first: Any
    second: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two datasets. `options`: the options of the build that differ, as (name, first, second)."""

    utterances: tuple[int, int]
    options: tuple[tuple[str, Any, Any], ...]
    differences: tuple[Difference, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many utterances differ in each respect."""
        counts: dict[str, int] = {}
        for difference in self.differences:
            counts[difference.aspect] = counts.get(difference.aspect, 0) + 1
        return counts


def compare_datasets(first: Path, second: Path) -> Comparison:
    """Compare the datasets in two folders. Raises InputError if one is no dataset."""
    infos = [read_dataset_info(path) for path in (first, second)]
    tables = [
        {row["key"]: row for row in read_manifest_rows(path, info)}
        for path, info in zip((first, second), infos, strict=True)
    ]
    recipes = [info["recipe"] for info in infos]
    names = sorted({*recipes[0], *recipes[1]})
    return Comparison(
        utterances=(len(tables[0]), len(tables[1])),
        options=tuple(
            (name, recipes[0].get(name), recipes[1].get(name))
            for name in names
            if recipes[0].get(name) != recipes[1].get(name)
        ),
        differences=tuple(_differences(*tables)),
    )


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    """In the order of the first table; utterances that only the second one has follow."""
    for key in [*first, *(key for key in second if key not in first)]:
        one, other = first.get(key), second.get(key)
        if one is None or other is None:
            there = [None if row is None else row["status"] for row in (one, other)]
            yield Difference(key=key, aspect="utterance", first=there[0], second=there[1])
            continue
        for aspect, columns in ASPECTS.items():
            values = [_value(row, columns) for row in (one, other)]
            if values[0] != values[1]:
                yield Difference(key=key, aspect=aspect, first=values[0], second=values[1])
        labels = [row["labels"] or {} for row in (one, other)]
        for name in dict.fromkeys([*labels[0], *labels[1]]):
            if labels[0].get(name) != labels[1].get(name):
                yield Difference(key=key, aspect=f"label {name}", first=labels[0].get(name), second=labels[1].get(name))


def _value(row: Mapping[str, Any], columns: tuple[str, ...]) -> Any:
    return row[columns[0]] if len(columns) == 1 else [row[column] for column in columns]

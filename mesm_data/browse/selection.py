"""Which utterances of a dataset a visitor wants to see."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mesm_data.dataset.reader import Dataset
from mesm_data.splits.resolve import Split, resolve_all_splits

ANY = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What an utterance must have; "" and () mean anything.

    Attributes:
        label: a value of the first category or multilabel scheme.
        speaker: who speaks.
        flag: one of its flags.
        part: "SPLIT: PART" of a split.
        text: what its transcript or key contains, whatever the case.
    """

    label: str = ANY
    speaker: str = ANY
    flag: str = ANY
    part: str = ANY
    text: str = ANY


class Catalogue:
    """The built utterances of a dataset with what they can be filtered by."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.scheme = next((name for name, one in dataset.schema.labels.items() if one.type != "number"), None)
        self.rows = {key: dataset.rows[key] for key in dataset.keys}
        splits = resolve_all_splits(self.rows.values(), dataset.schema)
        self.parts = {
            f"{name}: {part}": frozenset(keys)
            for name, split in splits.items()
            if isinstance(split, Split)
            for part, keys in split.parts.items()
        }

    @property
    def labels(self) -> list[str]:
        """The values of the first category or multilabel scheme that occur."""
        return sorted({value for row in self.rows.values() for value in self.values(row)})

    @property
    def speakers(self) -> list[str]:
        """All speakers."""
        return sorted({row["speaker"] for row in self.rows.values() if row["speaker"]})

    @property
    def flags(self) -> list[str]:
        """All flags that occur."""
        return sorted({flag for row in self.rows.values() for flag in row["flags"] or ()})

    def values(self, row: Mapping[str, Any]) -> list[str]:
        """The values of an utterance in the first category or multilabel scheme."""
        value = row["labels"].get(self.scheme) if self.scheme else None
        return list(value) if isinstance(value, list) else [value] if value is not None else []

    def select(self, query: Query) -> Iterator[str]:
        """The keys that fit, in the manifest's order. Transcripts are read from the shards only for a `text`."""
        needle = query.text.casefold()
        for key, row in self.rows.items():
            if query.label != ANY and query.label not in self.values(row):
                continue
            if query.speaker != ANY and row["speaker"] != query.speaker:
                continue
            if query.flag != ANY and query.flag not in (row["flags"] or ()):
                continue
            if query.part != ANY and key not in self.parts.get(query.part, ()):
                continue
            if needle and needle not in key.casefold() and needle not in self.text(key).casefold():
                continue
            yield key

    def text(self, key: str) -> str:
        """The transcript of an utterance."""
        return bytes(self.dataset.member(key, "txt")).decode()

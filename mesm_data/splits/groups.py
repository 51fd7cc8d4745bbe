"""Which files of a dataset an utterance goes into, where a build is told to group them by a split."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.splits.resolve import split as split_of
from mesm_data.storage.json_files import write_json
from mesm_data.storage.json_shapes import MapOf, read_checked_json

ALL = "all"
REST = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Groups of files: train, valid, test, and `rest` for what the split does not hold; `all` without a split.

    `split` is what a recipe records, the split's name and the digest of its lists; None without one.
    """

    split: dict[str, str] | None
    parts: Mapping[str, str]  # key -> part

    def of(self, key: str) -> str:
        """The group of an utterance, built or not."""
        return self.parts.get(key, REST) if self.split else ALL

    def save(self, out: Path) -> None:
        """Keep the groups beside the parts of the dataset `out`, so that its lists need not be there to go on."""
        if self.split:
            write_json(_file(out), {"split": self.split, "parts": dict(self.parts)})


def grouped(rows: Iterable[Mapping[str, Any]], schema: CorpusSchema, name: str | None) -> Groups:
    """Groups by the split `name` (None: none) of the whole corpus' `rows`, all with status ok. Raises as `split`."""
    if name is None:
        return Groups(split=None, parts={})
    made = split_of(rows, schema, name)
    return Groups(
        split={"name": made.name, "digest": made.digest},
        parts={key: part for part, keys in made.parts.items() for key in keys},
    )


def saved(out: Path, split: dict[str, str] | None) -> Groups:
    """The groups that `Groups.save` kept in `out` for this split. Raises InputError if they are not there."""
    if split is None:
        return Groups(split=None, parts={})
    said = read_checked_json(_file(out), {"split": {"name": str, "digest": str}, "parts": MapOf(str)})
    if said["split"] != split:
        raise InputError(f"{_file(out)} groups by {said['split']}, the recipe by {split}: build anew with --overwrite")
    return Groups(split=split, parts=said["parts"])


def _file(out: Path) -> Path:
    return out / ".build" / "groups.json"

"""Groups of shards: a build can group utterances by the parts of a split, so that each shard belongs to one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.splits.resolve import resolve_split
from mesm_data.storage.json_files import write_json
from mesm_data.storage.json_shapes import MapOf, read_checked_json

ALL = "all"
REST = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Groups of shards: train, valid, test, and `rest` for utterances outside the split; without a split, only `all`.

    Attributes:
        split: name and digest of the split, as in the recipe; None without a split.
        parts: key -> part.
    """

    split: dict[str, str] | None
    parts: Mapping[str, str]

    def of(self, key: str) -> str:
        """Return the group of an utterance, also of one that is not built."""
        return self.parts.get(key, REST) if self.split else ALL

    def save(self, out: Path) -> None:
        """Save the groups in the build folder of `out`, so that the build can be resumed without the lists."""
        if self.split:
            write_json(_groups_file(out), {"split": self.split, "parts": dict(self.parts)})


def group_by_split(rows: Iterable[Mapping[str, Any]], schema: CorpusSchema, name: str | None) -> Groups:
    """Group the whole corpus' `rows`, all with status ok, by the split `name`. Raises like `resolve_split`."""
    if name is None:
        return Groups(split=None, parts={})
    split = resolve_split(rows, schema, name)
    return Groups(
        split={"name": split.name, "digest": split.digest},
        parts={key: part for part, keys in split.parts.items() for key in keys},
    )


def load_groups(out: Path, split: dict[str, str] | None) -> Groups:
    """Load the groups that `Groups.save` wrote to `out` for this split. Raises InputError if there are none."""
    if split is None:
        return Groups(split=None, parts={})
    saved = read_checked_json(_groups_file(out), {"split": {"name": str, "digest": str}, "parts": MapOf(str)})
    if saved["split"] != split:
        raise InputError(
            f"{_groups_file(out)} groups by {saved['split']}, the recipe by {split}: build again with --overwrite"
        )
    return Groups(split=split, parts=saved["parts"])


def _groups_file(out: Path) -> Path:
    return out / ".build" / "groups.json"

"""Resolution of a split: from its name to the utterances of each part.

A split is named by a rule (see rules.py), a downloaded published list (registry.py), or the path of lists (lists.py).
The ids of a list may be those of utterances, or of dialogs (CMU-MOSEI: videos).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError, did_you_mean
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.splits.folds import is_fold_name, split_by_fold
from mesm_data.splits.leaks import Leaks, Rows, find_leaks
from mesm_data.splits.lists import PARTS, SUFFIXES, Lists, read_lists
from mesm_data.splits.registry import published_name, read_stored_lists
from mesm_data.splits.rules import named_splits, split_by_rule
from mesm_data.storage.json_files import canonical_json
from mesm_data.storage.safe_text import valid_unicode

__all__ = ["PARTS", "MissingId", "Split", "resolve_all_splits", "resolve_split"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingId:
    """An id of a split that the dataset lacks. `status`: failed, excluded, or absent (there is no such id).

    In a split by a rule or by lists of dialogs, excluded utterances do not count as missing: CMU-MOSEI's videos contain
    thousands of clips that were never rated.
    """

    key: str
    part: str
    status: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The utterances of a dataset by part.

    Attributes:
        of: what the ids of the lists are: "utterances" or "dialogs".
        parts: the sorted keys of each part.
        digest: sha256 of the original lists, including missing ids.
        missing: ids that the dataset lacks.
    """

    name: str
    of: str
    parts: dict[str, tuple[str, ...]]
    digest: str
    missing: tuple[MissingId, ...]
    leaks: Leaks

    def __repr__(self) -> str:
        counts = ", ".join(f"{part} {len(keys)}" for part, keys in self.parts.items())
        shared = [f"{count} {kind}" for kind, count in self.leaks.counts().items() if count]
        missing = f", {len(self.missing)} missing" if self.missing else ""
        return f"Split({self.name:.40}: {counts}{missing}; parts share {', '.join(shared) or 'nothing'})"

    def part(self, name: str) -> tuple[str, ...]:
        """Return the keys of one part. Raises InputError if there is no such part or it is empty in this dataset."""
        if not self.parts.get(name):
            raise InputError(
                f"split {self.name} has no utterances of this dataset in the part {name!r}; "
                f"there are {', '.join(f'{part} ({len(keys)})' for part, keys in self.parts.items())}"
            )
        return self.parts[name]

    def summary(self) -> dict[str, Any]:
        """Return name, digest and counts, ready for JSON."""
        missing = Counter(item.status for item in self.missing)
        return {
            "name": self.name,
            "of": self.of,
            "digest": self.digest,
            "counts": {part: len(keys) for part, keys in self.parts.items()},
            "missing": {status: missing[status] for status in ("failed", "excluded", "absent")},
            "leaks": self.leaks.counts(),
        }


def resolve_split(rows: Iterable[Mapping[str, Any]], schema: CorpusSchema, name: str) -> Split:
    """Resolve the split `name` for the utterances in a manifest's `rows`.

    Raises InputError if there is no such split, its lists are missing or invalid (an id occurs twice), or the dataset
    has none of its utterances.
    """
    table = {row["key"]: row for row in rows}
    original, name = find_lists(table, schema, name)
    of, lists, absent = expand_lists(original, table)
    built = {part: tuple(key for key in keys if _status(table, key) == "ok") for part, keys in lists.items()}
    if not any(built.values()):
        first = next((key for keys in original.values() for key in keys), "none")
        raise InputError(
            f"split {name}: this dataset of {schema.name} contains none of its utterances (the first is {first})"
        )
    # A list of utterances requires each of them; a rule or a list of dialogs requires those that can be built.
    known = named_splits(schema, table)
    is_rule = known[name].is_rule if name in known else is_fold_name(name)
    expected = ("ok",) if of == "utterances" and not is_rule else ("ok", "excluded")
    not_built = tuple(
        MissingId(key=key, part=part, status=status, reason=table.get(key, {}).get("reason"))
        for part, keys in lists.items()
        for key in keys
        if (status := _status(table, key)) not in expected
    )
    return Split(
        name=name,
        of=of,
        parts=built,
        digest=sha256(canonical_json(original)).hexdigest(),
        missing=(*absent, *not_built),
        leaks=find_leaks(built, table),
    )


def resolve_all_splits(rows: Iterable[Mapping[str, Any]], schema: CorpusSchema) -> dict[str, Split | str]:
    """Resolve every split of the schema for `rows`; the value is a sentence if that is not possible."""
    rows = list(rows)
    splits: dict[str, Split | str] = {}
    for name in named_splits(schema, {row["key"]: row for row in rows}):
        try:
            splits[name] = resolve_split(rows, schema, name)
        except InputError as error:
            splits[name] = str(error)
    return splits


def _status(rows: Rows, key: str) -> str:
    return str(rows[key]["status"]) if key in rows else "absent"


def find_lists(rows: Rows, schema: CorpusSchema, name: str) -> tuple[Lists, str]:
    """Return the sorted original lists of a split and its name: the identical published split's, or the path's."""
    known = named_splits(schema, rows)
    if name in known:
        return split_by_rule(rows, known[name]) if known[name].is_rule else read_stored_lists(known[name]), name
    if (fold := split_by_fold(rows, schema, name)) is not None:
        return fold, name
    path = Path(name)
    if not (path.is_dir() or (path.suffix in SUFFIXES and path.is_file())):
        raise _unknown(name, list(known))
    lists, digests = read_lists(path)
    return lists, published_name(schema, digests) or valid_unicode(path.resolve().name if path.is_dir() else path.stem)


def expand_lists(lists: Lists, rows: Rows) -> tuple[str, Lists, tuple[MissingId, ...]]:
    """Expand lists of dialogs to their utterances.

    Lists contain dialogs if more of their ids are dialogs than utterances of the dataset.

    Returns:
        "utterances" or "dialogs", the keys of each part, and the dialogs that are not in `rows`.
    """
    dialogs: dict[str, list[str]] = {}
    for key in sorted(rows):
        dialogs.setdefault(rows[key]["dialog"], []).append(key)
    # Lists contain ids; the key of an utterance differs from an id that is not a valid key.
    keys = {row.get("id", key): key for key, row in rows.items()}
    lists = {part: sorted(keys.get(name, name) for name in names) for part, names in lists.items()}
    ids = [key for names in lists.values() for key in names]
    if sum(key in dialogs for key in ids) <= sum(key in rows for key in ids):
        return "utterances", lists, ()
    expanded = {part: sorted(key for name in names for key in dialogs.get(name, ())) for part, names in lists.items()}
    absent = tuple(
        MissingId(key=name, part=part, status="absent", reason=None)
        for part, names in lists.items()
        for name in names
        if name not in dialogs
    )
    return "dialogs", expanded, absent


def _unknown(name: str, known: list[str]) -> InputError:
    hint = did_you_mean(name, known)
    return InputError(
        f"there is no split {name!r}: {hint}Expected {', '.join(known)}, a folder with train_split.txt, "
        "valid_split.txt and test_split.txt, a .py, .yaml or .json file of lists, or a fold such as speaker:2of5"
    )

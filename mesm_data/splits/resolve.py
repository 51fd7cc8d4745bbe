"""Splits: which utterances train, which choose the thresholds, which are tested. By a rule, or by published lists.

A split is named: a rule (see rules.py), a published list that was fetched (see registry.py), or the path of lists (see
lists.py). The ids of a list may be those of utterances, or of dialogs (CMU-MOSEI: videos).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.splits.folds import is_fold_name, split_by_fold
from mesm_data.splits.leaks import Leaks, Rows, leaks
from mesm_data.splits.lists import PARTS, SUFFIXES, Lists, read_lists
from mesm_data.splits.registry import name_of, stored
from mesm_data.splits.rules import named_splits, split_by_rule
from mesm_data.storage.json_files import canonical_json
from mesm_data.storage.safe_text import valid_unicode

__all__ = ["PARTS", "Missing", "Split", "available", "split"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """An id of a list that the dataset does not hold. `status`: failed, excluded, or absent (there is no such id).

    Of a split by a rule or by lists of dialogs an utterance that is excluded is not missing: CMU-MOSEI's videos have
    thousands of clips that were never rated.
    """

    key: str
    part: str
    status: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Keys by part, sorted, of what the dataset holds. `digest` is that of the lists as given, with what is missing.

    `of` says what the lists name: utterances, or dialogs with all their utterances.
    """

    name: str
    of: str
    parts: dict[str, tuple[str, ...]]
    digest: str
    missing: tuple[Missing, ...]
    leaks: Leaks

    def part(self, name: str) -> tuple[str, ...]:
        """The keys of one part. Raises InputError if the split has no such part, or nothing of it is in the dataset."""
        if not self.parts.get(name):
            raise InputError(
                f"split {self.name} has nothing in its part {name!r} that this dataset holds; "
                f"there are {', '.join(f'{part} ({len(keys)})' for part, keys in self.parts.items())}"
            )
        return self.parts[name]

    def summary(self) -> dict[str, Any]:
        """What identifies and describes it, ready for JSON, in numbers."""
        missing = Counter(item.status for item in self.missing)
        return {
            "name": self.name,
            "of": self.of,
            "digest": self.digest,
            "counts": {part: len(keys) for part, keys in self.parts.items()},
            "missing": {status: missing[status] for status in ("failed", "excluded", "absent")},
            "leaks": self.leaks.counts(),
        }


def split(rows: Iterable[Mapping[str, Any]], schema: CorpusSchema, name: str) -> Split:
    """The split `name` of the utterances in a manifest's `rows`.

    Raises InputError if there is no such split, its lists are not there or not clean (an id twice), or nothing in them
    is held.
    """
    table = {row["key"]: row for row in rows}
    given, name = lists_of(table, schema, name)
    of, lists, absent = utterances(given, table)
    held = {part: tuple(key for key in keys if _status(table, key) == "ok") for part, keys in lists.items()}
    if not any(held.values()):
        some = next((key for keys in given.values() for key in keys), "none")
        raise InputError(
            f"split {name}: this dataset of {schema.name} holds none of its utterances (the first is {some})"
        )
    # A list of utterances names each of them; a rule, or a list of dialogs, means those that can be built.
    known = named_splits(schema, table)
    is_rule = known[name].is_rule if name in known else is_fold_name(name)
    expected = ("ok",) if of == "utterances" and not is_rule else ("ok", "excluded")
    unbuilt = tuple(
        Missing(key=key, part=part, status=status, reason=table.get(key, {}).get("reason"))
        for part, keys in lists.items()
        for key in keys
        if (status := _status(table, key)) not in expected
    )
    return Split(
        name=name,
        of=of,
        parts=held,
        digest=sha256(canonical_json(given)).hexdigest(),
        missing=(*absent, *unbuilt),
        leaks=leaks(held, table),
    )


def available(rows: Iterable[Mapping[str, Any]], schema: CorpusSchema) -> dict[str, Split | str]:
    """Every split that the corpus' schema names: made of `rows`, or the sentence that says why it cannot be."""
    rows = list(rows)
    found: dict[str, Split | str] = {}
    for name in named_splits(schema, {row["key"]: row for row in rows}):
        try:
            found[name] = split(rows, schema, name)
        except InputError as error:
            found[name] = str(error)
    return found


def _status(rows: Rows, key: str) -> str:
    return str(rows[key]["status"]) if key in rows else "absent"


def lists_of(rows: Rows, schema: CorpusSchema, name: str) -> tuple[Lists, str]:
    """The lists of a split as given, sorted, and its name: of the published split that they are, or the path's."""
    known = named_splits(schema, rows)
    if name in known:
        return split_by_rule(rows, known[name]) if known[name].is_rule else stored(known[name]), name
    if (fold := split_by_fold(rows, schema, name)) is not None:
        return fold, name
    path = Path(name)
    if not (path.is_dir() or (path.suffix in SUFFIXES and path.is_file())):
        raise _unknown(name, list(known))
    lists, digests = read_lists(path)
    return lists, name_of(schema, digests) or valid_unicode(path.resolve().name if path.is_dir() else path.stem)


def utterances(given: Lists, rows: Rows) -> tuple[str, Lists, tuple[Missing, ...]]:
    """What the lists name, the keys of their utterances, and the dialogs that are not in `rows`.

    All lists of a split name the same: dialogs, if more of their ids are dialogs of the dataset than utterances of it.
    """
    dialogs: dict[str, list[str]] = {}
    for key in sorted(rows):
        dialogs.setdefault(rows[key]["dialog"], []).append(key)
    # Lists name ids; a key is another name where the id cannot be one.
    keys = {row.get("id", key): key for key, row in rows.items()}
    given = {part: sorted(keys.get(name, name) for name in names) for part, names in given.items()}
    ids = [key for keys in given.values() for key in keys]
    if sum(key in dialogs for key in ids) <= sum(key in rows for key in ids):
        return "utterances", given, ()
    lists = {part: sorted(key for name in names for key in dialogs.get(name, ())) for part, names in given.items()}
    absent = tuple(
        Missing(key=name, part=part, status="absent", reason=None)
        for part, names in given.items()
        for name in names
        if name not in dialogs
    )
    return "dialogs", lists, absent


def _unknown(name: str, known: list[str]) -> InputError:
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return InputError(
        f"there is no split {name!r}: {hint}Expected {', '.join(known)}, a folder with train_split.txt, "
        "valid_split.txt and test_split.txt, a .py, .yaml or .json file of lists, or a fold such as speaker:2of5"
    )

"""Splits by a rule of the corpus' schema: they need no list, and hold for whatever a dataset holds.

A rule with folds (leave_one_out, group_kfold, folds) stands for several splits. Fold i is tested by the split i, and
validates the split before it, so that each fold validates once and no group is in two parts.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.schema.splits import ListPart, SplitSpec
from mesm_data.splits.leaks import Rows
from mesm_data.splits.lists import PARTS, Lists


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSplit:
    """One split of a corpus by name: its entry in the schema and, of an entry with folds, which groups it leaves out.

    `fold` is the place of the tested fold in `folds`; both are None where the entry is one split.
    """

    corpus: str
    name: str
    spec: SplitSpec
    fold: int | None = None
    folds: tuple[tuple[str, ...], ...] | None = None

    @property
    def is_rule(self) -> bool:
        """Whether it follows from the dataset's own rows, so that nothing has to be fetched."""
        return self.spec.rule != "lists"

    @property
    def files(self) -> dict[str, ListPart]:
        """Each file of published lists by its name; one file may hold several parts."""
        return {part.file: part for part in self.spec.parts.values()}

    @property
    def counts(self) -> Mapping[str, int]:
        """Utterances by part of a complete release, as far as the schema states them."""
        if self.spec.parts:
            return {part: entry.lines for part, entry in self.spec.parts.items()}
        return self.spec.counts.get(self.name, {})


def named_splits(schema: CorpusSchema, rows: Rows) -> dict[str, NamedSplit]:
    """All splits of a corpus by name. Which folds there are may depend on the groups that `rows` hold."""
    found: dict[str, NamedSplit] = {}
    for name, spec in schema.splits.items():
        folds = _folds(spec, rows)
        if folds is None:
            found[name] = NamedSplit(corpus=schema.name, name=name, spec=spec)
            continue
        for index, groups in enumerate(folds):
            label = groups[0] if spec.rule == "leave_one_out" else str(index + 1)
            fold_name = f"{name}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', label)}"
            found[fold_name] = NamedSplit(corpus=schema.name, name=fold_name, spec=spec, fold=index, folds=folds)
    return found


def _folds(spec: SplitSpec, rows: Rows) -> tuple[tuple[str, ...], ...] | None:
    """The groups of each fold; None for a rule that has none."""
    if spec.rule == "folds":
        return spec.folds
    if spec.rule not in ("leave_one_out", "group_kfold"):
        return None
    assert spec.group is not None
    sizes = Counter(str(row[spec.group]) for row in rows.values() if row.get(spec.group) is not None)
    if spec.rule == "leave_one_out":
        return tuple((group,) for group in (spec.values or sorted(sizes)))
    assert spec.k is not None
    folds: list[list[str]] = [[] for _ in range(spec.k)]
    totals = [0] * spec.k
    for group, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        smallest = totals.index(min(totals))
        folds[smallest].append(group)
        totals[smallest] += size
    return tuple(tuple(fold) for fold in folds if fold)


def split_by_rule(rows: Rows, split: NamedSplit) -> Lists:
    """The sorted keys of each part. Raises InputError if a part would be empty, or rows lack what the rule needs."""
    parts: dict[str, str | None]
    if split.spec.rule == "column":
        parts = {key: row.get("split") for key, row in rows.items()}
    elif split.fold is not None:
        parts = _fold_parts(rows, split)
    else:
        group = split.spec.group or "dialog"
        parts = {key: hashed_part(_group(key, row, group)) for key, row in rows.items()}
    lists = {part: sorted(key for key, placed in parts.items() if placed == part) for part in PARTS}
    if not all(lists.values()):
        raise InputError(_empty_part(rows, split, lists))
    return lists


def _fold_parts(rows: Rows, split: NamedSplit) -> dict[str, str | None]:
    assert split.folds is not None
    assert split.fold is not None
    assert split.spec.group is not None
    test = split.folds[split.fold]
    valid = split.folds[(split.fold + 1) % len(split.folds)]
    part_of = {**dict.fromkeys(valid, "valid"), **dict.fromkeys(test, "test")}
    return {key: part_of.get(_group(key, row, split.spec.group), "train") for key, row in rows.items()}


def _group(key: str, row: Mapping[str, Any], group: str) -> str:
    value = key if group == "id" else row.get(group)
    if value is None:
        raise InputError(f"{key} has no {group}: this split cannot be made of a corpus that does not say it")
    return str(value)


def _empty_part(rows: Rows, split: NamedSplit, lists: Lists) -> str:
    empty = ", ".join(part for part, keys in lists.items() if not keys)
    group = split.spec.group or "split"
    if split.spec.rule == "column":
        values = sorted({str(row.get("split")) for row in rows.values()})[:8]
        return f"split {split.name}: nothing is in its part {empty}; the table's split column holds {', '.join(values)}"
    groups = sorted({_group(key, row, group) for key, row in rows.items()})
    shown = ", ".join(groups[:8]) + (" …" if len(groups) > 8 else "")
    if split.folds is None or split.fold is None:
        number = f"of this dataset's {len(groups)} {group}s none falls into: {empty}"
        return f"split {split.name}: {number}. Build more {group}s, or take another split"
    test, valid = split.folds[split.fold], split.folds[(split.fold + 1) % len(split.folds)]
    return (
        f"split {split.name} needs the {group}s {', '.join(test[:8])} (test), {', '.join(valid[:8])} (valid) and "
        f"another one (train); this dataset holds: {shown or 'none'}. Build those, or take another split"
    )


def hashed_part(group: str) -> str:
    """Where the rule `hash` puts a group, whatever else there is: 80 % train, 10 % valid, 10 % test."""
    place = int(sha256(group.encode()).hexdigest()[:8], 16) % 100
    return "train" if place < 80 else "valid" if place < 90 else "test"

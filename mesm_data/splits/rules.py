"""Splits by a rule of the schema, which need no lists and apply to any subset of the corpus.

A rule with folds (leave_one_out, group_kfold, folds) defines several splits. Fold i is the test part of split i and the
validation part of the split before it, so that each fold validates once and no group is in two parts.
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
    """One split of a corpus.

    Attributes:
        spec: its entry in the schema.
        fold: index in `folds` of the test fold; None for an entry without folds.
        folds: the groups of each fold; None for an entry without folds.
    """

    corpus: str
    name: str
    spec: SplitSpec
    fold: int | None = None
    folds: tuple[tuple[str, ...], ...] | None = None

    @property
    def is_rule(self) -> bool:
        """Whether the split follows from the dataset's own rows, without downloaded lists."""
        return self.spec.rule != "lists"

    @property
    def files(self) -> dict[str, ListPart]:
        """The files of published lists, by name; one file may contain several parts."""
        return {part.file: part for part in self.spec.parts.values()}

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of utterances of a complete release by part, as far as the schema has them."""
        if self.spec.parts:
            return {part: entry.lines for part, entry in self.spec.parts.items()}
        return self.spec.counts.get(self.name, {})


def named_splits(schema: CorpusSchema, rows: Rows) -> dict[str, NamedSplit]:
    """Return all splits of a corpus by name. The folds of some rules depend on the groups in `rows`."""
    splits: dict[str, NamedSplit] = {}
    for name, spec in schema.splits.items():
        folds = _folds(spec, rows)
        if folds is None:
            splits[name] = NamedSplit(corpus=schema.name, name=name, spec=spec)
            continue
        for index, groups in enumerate(folds):
            label = groups[0] if spec.rule == "leave_one_out" else str(index + 1)
            fold_name = f"{name}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', label)}"
            splits[fold_name] = NamedSplit(corpus=schema.name, name=fold_name, spec=spec, fold=index, folds=folds)
    return splits


def _folds(spec: SplitSpec, rows: Rows) -> tuple[tuple[str, ...], ...] | None:
    """Return the groups of each fold; None for a rule without folds."""
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
    """Return the sorted keys of each part. Raises InputError if a part is empty or rows lack the rule's column."""
    parts: dict[str, str | None]
    if split.spec.rule == "column":
        parts = {key: row.get("split") for key, row in rows.items()}
    elif split.fold is not None:
        parts = _fold_parts(rows, split)
    else:
        group = split.spec.group or "dialog"
        parts = {key: hash_part(_group(key, row, group)) for key, row in rows.items()}
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
        raise InputError(f"{key} has no {group}, which this split needs")
    return str(value)


def _empty_part(rows: Rows, split: NamedSplit, lists: Lists) -> str:
    empty = ", ".join(part for part, keys in lists.items() if not keys)
    group = split.spec.group or "split"
    if split.spec.rule == "column":
        values = sorted({str(row.get("split")) for row in rows.values()})[:8]
        return (
            f"split {split.name}: part {empty} is empty; the table's split column has {', '.join(values)}. Write the "
            "ids of each part to train.txt, valid.txt and test.txt in a folder, and use its path as the split; or "
            "choose another split"
        )
    groups = sorted({_group(key, row, group) for key, row in rows.items()})
    present = ", ".join(groups[:8]) + (" …" if len(groups) > 8 else "")
    if split.folds is None or split.fold is None:
        return (
            f"split {split.name}: of this dataset's {len(groups)} {group}s none falls into: {empty}. "
            f"Build more {group}s, or choose another split"
        )
    test, valid = split.folds[split.fold], split.folds[(split.fold + 1) % len(split.folds)]
    return (
        f"split {split.name} needs the {group}s {', '.join(test[:8])} (test), {', '.join(valid[:8])} (valid) and "
        f"another one (train); this dataset has: {present or 'none'}. Build those, or choose another split"
    )


def hash_part(group: str) -> str:
    """Return the part to which the rule `hash` assigns a group: 80 % train, 10 % valid, 10 % test."""
    percentile = int(sha256(group.encode()).hexdigest()[:8], 16) % 100
    return "train" if percentile < 80 else "valid" if percentile < 90 else "test"

"""Folds that any dataset has, without an entry in its schema, and the protocols that name all folds of a corpus.

    speaker:Ses01F   one speaker is tested
    session:3        one session is tested
    speaker:2of5     the speakers are dealt to five folds; the second is tested, the third validates

If one speaker is tested, those who share dialogs with them validate (the other speaker of an IEMOCAP session, who is in
the same recordings). If that would be nobody, or all others, the next speaker validates.
"""

import re
from collections.abc import Mapping
from typing import Any

from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.schema.splits import Group, SplitSpec
from mesm_data.splits.leaks import Rows
from mesm_data.splits.lists import PARTS, Lists
from mesm_data.splits.rules import NamedSplit, named_splits, split_by_rule

PROTOCOLS = "session, speaker, official, a number of folds, or the name of one split"
_NAME = re.compile(r"(?P<group>session|speaker|dialog):(?:(?P<fold>[0-9]{1,4})of(?P<k>[0-9]{1,4})|(?P<value>.+))")
_GROUPS: dict[str, Group] = {"session": "session", "speaker": "speaker", "dialog": "dialog"}


def is_fold_name(name: str) -> bool:
    """Whether `name` is that of a fold, as above."""
    return _NAME.fullmatch(name) is not None


def split_by_fold(rows: Rows, schema: CorpusSchema, name: str) -> Lists | None:
    """The keys of each part of a fold by its name; None if `name` is not that of a fold.

    Raises InputError if the dataset has no such group, or too few of them.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    group = _GROUPS[match["group"]]
    if match["k"]:
        k, fold = int(match["k"]), int(match["fold"])
        if not 1 <= fold <= k or not 3 <= k <= 1000:
            raise InputError(f"split {name}: expected a fold from 1 to the number of folds, which is 3 to 1000")
        spec = SplitSpec(rule="group_kfold", group=group, k=k)
        folds = named_splits(schema.model_copy(update={"splits": {"fold": spec}}), rows).values()
        split = next((split for split in folds if split.fold == fold - 1), None)
        if split is None:
            raise InputError(f"split {name}: this dataset has fewer {group}s than folds")
        return split_by_rule(rows, split)
    values = sorted({str(row[group]) for row in rows.values() if row.get(group) is not None})
    if match["value"] not in values:
        shown = ", ".join(values[:8]) + (" …" if len(values) > 8 else "")
        raise InputError(f"split {name}: this dataset has no {group} {match['value']!r}; it has {shown or 'none'}")
    valid = _validating(rows, group, match["value"], values)
    part_of = {**dict.fromkeys(valid, "valid"), match["value"]: "test"}
    parts = {key: part_of.get(str(row.get(group)), "train") for key, row in rows.items()}
    lists = {part: sorted(key for key, placed in parts.items() if placed == part) for part in PARTS}
    if not all(lists.values()):
        raise InputError(f"split {name}: it needs three {group}s at least, and this dataset has {len(values)}")
    return lists


def _validating(rows: Rows, group: Group, tested: str, values: list[str]) -> set[str]:
    """Who validates while `tested` is tested: see the top of the file."""
    if group == "speaker":
        members: dict[str, set[str]] = {}  # the speakers of each dialog
        for row in rows.values():
            members.setdefault(str(row["dialog"]), set()).add(str(row.get(group)))
        together, before = {tested}, set[str]()
        while together != before:
            before = together
            together = before.union(*(some for some in members.values() if some & before))
        if 1 < len(together) < len(values):
            return together - {tested}
    return {values[(values.index(tested) + 1) % len(values)]}


def fold_names(rows: Mapping[str, Mapping[str, Any]], schema: CorpusSchema, protocol: str) -> list[str]:
    """The splits of a protocol: session or speaker (each is tested once), official (the corpus' own), k folds, or one.

    Args:
        rows: The manifest's rows by key.
        schema: The corpus' schema.
        protocol: One of PROTOCOLS.

    Raises:
        InputError: The corpus does not have such folds.
    """
    known = named_splits(schema, rows)
    if protocol == "official":
        return [_official(known, schema)]
    if protocol in known:
        return [protocol]
    if protocol.isdecimal():
        return [f"speaker:{fold}of{protocol}" for fold in range(1, int(protocol) + 1)]
    if protocol not in ("session", "speaker"):
        raise InputError(f"folds {protocol!r}: expected {PROTOCOLS}")
    built = {key: row for key, row in rows.items() if row.get("status", "ok") == "ok"}
    values = sorted({str(row[protocol]) for row in built.values() if row.get(protocol) is not None})
    if len(values) < 3:
        raise InputError(f"folds {protocol}: this dataset has {len(values)} {protocol}s, and folds need three at least")
    own = [
        name
        for name, split in known.items()
        if split.spec.rule == "leave_one_out" and split.spec.group == protocol
        and split.folds is not None and {group for fold in split.folds for group in fold} == set(values)
    ]  # fmt: skip
    return own or [f"{protocol}:{value}" for value in values]


def _official(known: Mapping[str, NamedSplit], schema: CorpusSchema) -> str:
    published = [name for name, split in known.items() if split.spec.rule in ("lists", "column")]
    chosen = [name for name in published if name == "official"] or published
    if len(chosen) != 1:
        raise InputError(
            f"folds official: {schema.name} has {', '.join(chosen) or 'no published split'}: "
            f"{'give the name of the one that you mean' if chosen else 'take other folds'}"
        )
    return chosen[0]

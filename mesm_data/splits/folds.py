"""Folds of any dataset, without an entry in its schema, and protocols, which consist of all folds of a corpus.

    speaker:Ses01F   one speaker for testing
    session:3        one session for testing
    speaker:2of5     five folds of speakers; the second for testing, the third for validation

If one speaker is tested, the speakers who share dialogs with them are the validation part (in IEMOCAP the other speaker
of the session, who is in the same recordings). If that is nobody, or all others, it is the next speaker.
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
    """Whether `name` is that of a fold."""
    return _NAME.fullmatch(name) is not None


def split_by_fold(rows: Rows, schema: CorpusSchema, name: str) -> Lists | None:
    """Return the keys of each part of a fold; None if `name` is not that of a fold.

    Raises InputError if the dataset has no such group, or too few groups.
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
    valid = _validation_groups(rows, group, match["value"], values)
    part_of = {**dict.fromkeys(valid, "valid"), match["value"]: "test"}
    parts = {key: part_of.get(str(row.get(group)), "train") for key, row in rows.items()}
    lists = {part: sorted(key for key, placed in parts.items() if placed == part) for part in PARTS}
    if not all(lists.values()):
        raise InputError(f"split {name}: it needs at least three {group}s, and this dataset has {len(values)}")
    return lists


def _validation_groups(rows: Rows, group: Group, tested: str, values: list[str]) -> set[str]:
    """Return the validation groups for a test group, see the module's docstring."""
    if group == "speaker":
        members: dict[str, set[str]] = {}  # the speakers of each dialog
        for row in rows.values():
            members.setdefault(str(row["dialog"]), set()).add(str(row.get(group)))
        together, before = {tested}, set[str]()
        while together != before:
            before = together
            together = before.union(*(speakers for speakers in members.values() if speakers & before))
        if 1 < len(together) < len(values):
            return together - {tested}
    return {values[(values.index(tested) + 1) % len(values)]}


def fold_names(rows: Mapping[str, Mapping[str, Any]], schema: CorpusSchema, protocol: str) -> list[str]:
    """Return the splits of a protocol.

    Args:
        rows: the manifest's rows by key.
        schema: the schema of the corpus.
        protocol: "session" or "speaker" (each is the test part once), "official" (the corpus' own split), a number of
            folds of speakers, or the name of one split.

    Raises:
        InputError: the corpus does not have such folds.
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
        raise InputError(f"folds {protocol}: this dataset has {len(values)} {protocol}s, and folds need at least three")
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
            f"{'name one of them' if chosen else 'choose other folds'}"
        )
    return chosen[0]

"""Splits by a rule: they need no list, and hold for whatever a dataset holds.

session-1 .. session-5   IEMOCAP, one session (two speakers) left out: session-k tests on session k and validates on
                         session (k mod 5) + 1, so no speaker is in two parts. Each session validates once
dialog                   a dialog (CMU-MOSEI: a video) falls by sha256 of its id: 80 % train, 10 % valid, 10 % test
"""

import re
from hashlib import sha256

from mesm_data.errors import InputError
from mesm_data.splits.leaks import Rows
from mesm_data.splits.lists import PARTS, Lists

SESSIONS = tuple(f"session-{number}" for number in range(1, 6))
RULES = (*SESSIONS, "dialog")


def by_rule(rows: Rows, corpus: str, name: str) -> Lists:
    """The sorted keys of each part by one of RULES. Raises InputError if a part would be empty."""
    return _by_dialog(rows) if name == "dialog" else _by_session(rows, corpus, int(name[-1]))


def _by_session(rows: Rows, corpus: str, test: int) -> Lists:
    if corpus != "iemocap":
        raise InputError(f"split session-{test} is a rule for iemocap; for {corpus} there is `dialog`, or lists")
    valid = test % 5 + 1
    lists: Lists = {part: [] for part in PARTS}
    sessions = {key: _session(key, row["speaker"]) for key, row in rows.items()}
    for key in sorted(rows):
        lists[{test: "test", valid: "valid"}.get(sessions[key], "train")].append(key)
    if not all(lists.values()):
        there = ", ".join(map(str, sorted(set(sessions.values())))) or "none"
        raise InputError(
            f"split session-{test} needs the sessions {test} (test), {valid} (valid) and another one (train); "
            f"this dataset holds: {there}. Build those, or take the split `dialog`"
        )
    return lists


def _session(key: str, speaker: str) -> int:
    """Ses01F -> 1."""
    if not (found := re.fullmatch(r"Ses0([1-9])[FM]", speaker)):
        raise InputError(f"{key}: {speaker!r} is not the name of a speaker of IEMOCAP (Ses01F)")
    return int(found[1])


def _by_dialog(rows: Rows) -> Lists:
    lists: Lists = {part: [] for part in PARTS}
    for key in sorted(rows):
        lists[part_of(rows[key]["dialog"])].append(key)
    if not all(lists.values()):
        empty = ", ".join(part for part, keys in lists.items() if not keys)
        dialogs = len({row["dialog"] for row in rows.values()})
        raise InputError(
            f"split dialog: of this dataset's {dialogs} dialogs none falls into: {empty}. "
            "Build more dialogs, or name another split"
        )
    return lists


def part_of(dialog: str) -> str:
    """Where the rule `dialog` puts a dialog, whatever else there is."""
    place = int(sha256(dialog.encode()).hexdigest()[:8], 16) % 100
    return "train" if place < 80 else "valid" if place < 90 else "test"

"""Leaks of a split: speakers, dialogs and moments that occur in several parts."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]  # by key: the manifest row of an utterance


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaks:
    """What the parts of a split share, among the utterances in the dataset.

    Attributes:
        speakers, dialogs: those in more than one part.
        overlaps: pairs of utterances of one recording, in different parts, that overlap in time, so that both contain
            the same sound (and, with two speakers in the frame, the same video). Separate files never overlap.
    """

    speakers: tuple[str, ...]
    dialogs: tuple[str, ...]
    overlaps: tuple[tuple[str, str], ...]

    def counts(self) -> dict[str, int]:
        """Return the number of leaks of each kind."""
        return {"speakers": len(self.speakers), "dialogs": len(self.dialogs), "overlaps": len(self.overlaps)}


def find_leaks(parts: Mapping[str, Iterable[str]], rows: Rows) -> Leaks:
    """Find the leaks; `rows` must have every key, with speaker, dialog, recording, start and end."""
    part_of = {key: part for part, keys in parts.items() for key in keys}
    recordings: dict[str, list[str]] = {}
    for key in part_of:
        recordings.setdefault(rows[key]["recording"], []).append(key)
    pairs = [pair for keys in recordings.values() for pair in _overlapping(keys, rows)]
    return Leaks(
        speakers=_shared(part_of, rows, "speaker"),
        dialogs=_shared(part_of, rows, "dialog"),
        overlaps=tuple(sorted(pair for pair in pairs if part_of[pair[0]] != part_of[pair[1]])),
    )


def _shared(part_of: Mapping[str, str], rows: Rows, column: str) -> tuple[str, ...]:
    seen = Counter(value for value, _ in {(rows[key][column], part) for key, part in part_of.items()} if value)
    return tuple(sorted(value for value, number in seen.items() if number > 1))


def _overlapping(keys: Iterable[str], rows: Rows) -> Iterable[tuple[str, str]]:
    """Yield pairs of utterances that overlap by more than an instant, in the order of their starts."""
    active: list[str] = []
    for key in sorted(keys, key=lambda key: (rows[key]["start"], _end(rows[key]), key)):
        active = [other for other in active if _end(rows[other]) > rows[key]["start"]]
        yield from ((other, key) for other in active)
        active.append(key)


def _end(row: Mapping[str, Any]) -> float:
    """Return the end of an utterance in seconds; for a whole file it is unknown until the build."""
    return math.inf if row["end"] is None else float(row["end"])

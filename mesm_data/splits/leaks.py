"""What the parts of a split share: the same speaker, the same dialog, the same moment."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]  # by key: what a manifest says of an utterance


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaks:
    """What two parts share, among the utterances that the dataset holds.

    `overlaps` are pairs of utterances of one recording, in different parts, that overlap in time: the same moment is
    heard (and, with two speakers in the picture, seen) in both. Files of their own have no time in common.
    """

    speakers: tuple[str, ...]
    dialogs: tuple[str, ...]
    overlaps: tuple[tuple[str, str], ...]

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {"speakers": len(self.speakers), "dialogs": len(self.dialogs), "overlaps": len(self.overlaps)}


def leaks(parts: Mapping[str, Iterable[str]], rows: Rows) -> Leaks:
    """What the parts share; `rows` must hold every key, with speaker, dialog, recording, start and end."""
    where = {key: part for part, keys in parts.items() for key in keys}
    recordings: dict[str, list[str]] = {}
    for key in where:
        recordings.setdefault(rows[key]["recording"], []).append(key)
    pairs = [pair for keys in recordings.values() for pair in _overlapping(keys, rows)]
    return Leaks(
        speakers=_shared(where, rows, "speaker"),
        dialogs=_shared(where, rows, "dialog"),
        overlaps=tuple(sorted(pair for pair in pairs if where[pair[0]] != where[pair[1]])),
    )


def _shared(where: Mapping[str, str], rows: Rows, column: str) -> tuple[str, ...]:
    seen = Counter(value for value, _ in {(rows[key][column], part) for key, part in where.items()} if value)
    return tuple(sorted(value for value, number in seen.items() if number > 1))


def _overlapping(keys: Iterable[str], rows: Rows) -> Iterable[tuple[str, str]]:
    """Pairs of utterances that share more than an instant, in the order of their starts."""
    running: list[str] = []
    for key in sorted(keys, key=lambda key: (rows[key]["start"], _end(rows[key]), key)):
        running = [other for other in running if _end(rows[other]) > rows[key]["start"]]
        yield from ((other, key) for other in running)
        running.append(key)


def _end(row: Mapping[str, Any]) -> float:
    """The end of an utterance in seconds; before it is built, that of a whole file is not known."""
    return math.inf if row["end"] is None else float(row["end"])

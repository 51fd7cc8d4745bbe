"""What a parser of a corpus' text gives: records, and a sentence for all that it did not understand."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

Record = TypeVar("Record")


class Problem(NamedTuple):
    """A line (from 1) that was not, or not wholly, understood."""

    line: int
    message: str


@dataclass(slots=True)
class Parsed(Generic[Record]):
    """What a text holds. `skipped` counts the lines that are known to be none of the records, by kind."""

    records: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def problem(self, line: int, what: str, raw: str) -> None:
        """Report a line, its beginning quoted."""
        self.problems.append(Problem(line, f"{what}: {raw[:80]!r}"))


class Notes:
    """What a scan noticed: sentences by kind, each kind up to a number and then counted."""

    def __init__(self, limit: int = 20) -> None:
        self._limit = limit
        self._said: dict[str, list[str]] = {}

    def add(self, kind: str, sentence: str) -> None:
        """Note one thing. `kind` completes "and 7 more ...", such as "lines that were not understood"."""
        self._said.setdefault(kind, []).append(sentence)

    def sentences(self) -> list[str]:
        """All kinds in the order in which they came up."""
        said = []
        for kind, sentences in self._said.items():
            said += sentences[: self._limit]
            if len(sentences) > self._limit:
                said.append(f"and {len(sentences) - self._limit} more {kind}")
        return said

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
        self._sentences: dict[str, list[str]] = {}
        self._examples: dict[str, str] = {}
        self._numbers: Counter[str] = Counter()

    def add(self, kind: str, sentence: str) -> None:
        """Note one thing. `kind` completes "and 7 more ...", such as "lines that were not understood"."""
        self._numbers[kind] += 1
        sentences = self._sentences.setdefault(kind, [])
        if len(sentences) < self._limit:
            sentences.append(sentence)

    def count(self, kind: str, example: str) -> None:
        """Note one of many things that one sentence sums up: "7 <kind>, the first is <example>"."""
        self._numbers[kind] += 1
        self._sentences.setdefault(kind, [])
        self._examples.setdefault(kind, example)

    def extend(self, other: "Notes") -> None:
        """Take over what was noted elsewhere."""
        for kind, sentences in other._sentences.items():
            kept = self._sentences.setdefault(kind, [])
            kept += sentences[: max(self._limit - len(kept), 0)]
            self._numbers[kind] += other._numbers[kind]
            if kind in other._examples:
                self._examples.setdefault(kind, other._examples[kind])

    def sentences(self) -> list[str]:
        """All kinds in the order in which they came up."""
        every = []
        for kind, sentences in self._sentences.items():
            number = self._numbers[kind]
            if kind in self._examples:
                every.append(f"{number} {kind}, the first is {self._examples[kind]}")
            else:
                every += sentences
                every += [f"and {number - self._limit} more {kind}"] if number > self._limit else []
        return every

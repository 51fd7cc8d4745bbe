"""Results of the annotation parsers, and the log of what a scan noticed."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

Record = TypeVar("Record")


class Problem(NamedTuple):
    """A line (from 1) that could not be parsed, or not completely."""

    line: int
    message: str


@dataclass(slots=True)
class Parsed(Generic[Record]):
    """The result of a parser.

    Attributes:
        records: the records, in file order.
        problems: lines that could not be parsed, or not completely.
        skipped: number of lines that are known to be no records, by kind.
    """

    records: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def add_problem(self, line: int, message: str, raw: str) -> None:
        """Report a line; the beginning of its text is quoted."""
        self.problems.append(Problem(line, f"{message}: {raw[:80]!r}"))


class WarningLog:
    """What a scan noticed, as sentences by kind. Beyond a limit, the sentences of a kind are only counted."""

    def __init__(self, limit: int = 20) -> None:
        self._limit = limit
        self._sentences: dict[str, list[str]] = {}
        self._examples: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def add(self, kind: str, sentence: str) -> None:
        """Add a sentence. `kind` completes "and 7 more ...", such as "lines that cannot be parsed"."""
        self._counts[kind] += 1
        sentences = self._sentences.setdefault(kind, [])
        if len(sentences) < self._limit:
            sentences.append(sentence)

    def count(self, kind: str, example: str) -> None:
        """Count a case of a kind that one sentence sums up: "7 <kind>, the first is <example>"."""
        self._counts[kind] += 1
        self._sentences.setdefault(kind, [])
        self._examples.setdefault(kind, example)

    def extend(self, other: "WarningLog") -> None:
        """Add the content of another log."""
        for kind, sentences in other._sentences.items():
            kept = self._sentences.setdefault(kind, [])
            kept += sentences[: max(self._limit - len(kept), 0)]
            self._counts[kind] += other._counts[kind]
            if kind in other._examples:
                self._examples.setdefault(kind, other._examples[kind])

    def sentences(self) -> list[str]:
        """Return all sentences; the kinds are in the order of their first occurrence."""
        lines = []
        for kind, sentences in self._sentences.items():
            count = self._counts[kind]
            if kind in self._examples:
                lines.append(f"{count} {kind}, the first is {self._examples[kind]}")
            else:
                lines += sentences
                lines += [f"and {count - self._limit} more {kind}"] if count > self._limit else []
        return lines

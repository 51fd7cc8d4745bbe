"""Corpora that are released as rows: known anomalies become flags, known counts are compared with the copy.

Facts in NAME.toml:

[counts]
utterances = 2452                           # rows that are not excluded
dialogs = 10                                # number of distinct dialogs; likewise speakers and sessions
videos = 2452                               # rows with a video file; likewise sounds, with a separate audio file
failed = 1                                  # rows that cannot be built
excluded = { no_row = 9 }                   # rule -> rows
labels.emotion = { angry = 376 }            # label -> value -> rows
utterances_by_speaker = { Actor_01 = 104 }
splits.test = { utterances = 10, ... }      # the same for the rows of a part in the corpus' own table

[anomalies]
silent = ["1076_MTI_SAD_XX"]                # flag -> ids, as glob patterns
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from mesm_data.corpora.parsing import WarningLog
from mesm_data.corpora.release_check import compare_counts
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.corpora.table.scan import corpus_from_table
from mesm_data.schema.built_in import built_in_facts, built_in_schema
from mesm_data.schema.recordings import SYNTHETIC_MARKER, Corpus, Recording, Utterance

MAX_DIFFERENCES = 8  # in the notes

Rows = Sequence[tuple[Recording, Utterance]]


class _Count(NamedTuple):
    """A number of this copy and of the release."""

    name: str
    here: int
    known: int


def corpus_from_rows(name: str, root: Path, rows: Iterable[Mapping[str, str]], notes: WarningLog) -> Corpus:
    """Build the corpus `name` from rows of text cells under canonical column names; a missing cell is empty.

    Messages name a row by its cell `place` (the table and the row there), or else by its id.

    Utterances with a known anomaly get its flag. The first notes say how the copy differs from the release.
    Raises InputError like `corpus_from_table`.
    """
    import pandas as pd

    schema, rows = built_in_schema(name), list(rows)
    frame = pd.DataFrame(rows, dtype=str).fillna("")
    columns = (scheme.columns or (scheme.column or label,) for label, scheme in schema.labels.items())
    for column in ("flags", *(column for group in columns for column in group)):
        if column not in frame:
            frame[column] = ""
    known = known_flags(built_in_facts(name).get("anomalies", {}), frame["id"])
    frame["flags"] = frame["flags"] + frame["id"].map(lambda id_: "".join(f";{flag}" for flag in known.get(id_, ())))
    corpus = corpus_from_table(
        frame, schema, root, where=f"{schema.title or name} in {root}", notes=tuple(notes.sentences()),
        places=[row.get("place", row["id"]) for row in rows],
    )  # fmt: skip
    return replace(corpus, notes=(*compare_with_release(corpus), *corpus.notes))


def find_tables(tree: SourceTree, names: Iterable[str]) -> dict[str, str]:
    """Return the path of the table of each name that is there, at any depth and in any case.

    Of several with the same name the first is used; the others are noted, because they may be different versions.
    """
    spelled = {name.casefold(): name for name in names}
    tables: dict[str, str] = {}
    for match, path in tree.match(re.compile("|".join(map(re.escape, spelled)), re.IGNORECASE)):
        first = tables.setdefault(spelled[match[0].casefold()], path)
        if first != path:
            tree.notes.add("tables that are not read", f"{path} is not read, because {first} has the same name")
    return tables


def keep_first(notes: WarningLog, files: dict[str, str], kind: str, path: str, *, what: str = "files") -> None:
    """Put the path of a kind of file into `files`. Of several the first is kept; the others are counted in a note."""
    if files.setdefault(kind, path) != path:
        notes.count(f"{what} have the same name as another one; only one of them is read", path)


def known_flags(anomalies: Mapping[str, Sequence[str]], ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the flags of each id with an anomaly, in the order of `anomalies`."""
    ids, flags = set(ids), dict[str, list[str]]()
    for flag, patterns in anomalies.items():
        for pattern in patterns:
            is_literal = not re.search(r"[*?[]", pattern)
            for id_ in ids & {pattern} if is_literal else {id_ for id_ in ids if fnmatchcase(id_, pattern)}:
                flags.setdefault(id_, []).append(flag)
    return flags


def compare_with_release(corpus: Corpus) -> list[str]:
    """Compare a copy with the known counts of the release: the first differences, or a sentence that there are none.

    A synthetic corpus is not compared.
    """
    if (corpus.root / SYNTHETIC_MARKER).exists():
        return []
    known = built_in_facts(corpus.name)["counts"]
    rows = [(recording, utterance) for recording in corpus.recordings for utterance in recording.utterances]
    counts = list(_count(rows, known, ""))
    notes = compare_counts({count.name: count.here for count in counts}, {count.name: count.known for count in counts})
    if not notes:
        return [f"as released: {known['utterances']} utterances; all {len(counts)} counts are as they are known"]
    more = len(notes) - MAX_DIFFERENCES
    return [
        *notes[:MAX_DIFFERENCES],
        *([f"{more} more counts differ from the release as it is known"] if more > 0 else []),
    ]


def _count(rows: Rows, known: Mapping[str, Any], prefix: str) -> Iterator[_Count]:
    """Yield each count of `known`."""
    excluded = Counter(_reason(utterance, "excluded") for _, utterance in rows)
    kept = [(recording, utterance) for recording, utterance in rows if _reason(utterance, "excluded") is None]
    utterances = [utterance for _, utterance in kept]
    totals = {
        "utterances": len(kept),
        "dialogs": len({utterance.dialog for utterance in utterances}),
        "speakers": len({utterance.speaker for utterance in utterances}),
        "sessions": len({utterance.session for utterance in utterances}),
        "videos": sum(recording.video is not None for recording, _ in kept),
        "sounds": sum(any(s.path != recording.video for s in utterance.audio) for recording, utterance in kept),
        "failed": sum(_reason(utterance, "failed") is not None for utterance in utterances),
    }
    yield from (_Count(f"{prefix}{name}", totals[name], known[name]) for name in totals if name in known)
    for rule, number in known.get("excluded", {}).items():
        yield _Count(f"{prefix}excluded by {rule}", excluded[rule], number)
    for label, numbers in known.get("labels", {}).items():
        yield from _count_values(f"{prefix}{label}", _values(utterances, label), numbers)
    by_speaker = Counter(utterance.speaker or "" for utterance in utterances)
    if "utterances_by_speaker" in known:
        yield from _count_values(f"{prefix}utterances of", by_speaker, known["utterances_by_speaker"])
    for part, inner in known.get("splits", {}).items():
        yield from _count([row for row in rows if row[1].split == part], inner, f"{part}: ")


def _count_values(name: str, here: Mapping[str, int], known: Mapping[str, int]) -> Iterator[_Count]:
    for value in dict.fromkeys((*known, *here)):
        yield _Count(f"{name} {value}", here.get(value, 0), known.get(value, 0))


def _values(utterances: Iterable[Utterance], label: str) -> Counter[str]:
    values = (utterance.labels[label] for utterance in utterances)
    return Counter(value for cell in values for value in (cell if isinstance(cell, list) else [cell]) if value)


def _reason(utterance: Utterance, status: str) -> str | None:
    return utterance.exclusion.reason if utterance.exclusion and utterance.exclusion.status == status else None

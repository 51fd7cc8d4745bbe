"""A built-in corpus from its rows: what is known of a release, as flags, and as counts to compare a copy with.

Facts of NAME.toml:

[counts]
utterances = 2452                           # rows that are not excluded
dialogs = 10                                # how many different ones; likewise speakers and sessions
videos = 2452                               # rows with a video file; likewise sounds, with a sound file of their own
failed = 1                                  # rows that cannot be built
excluded = { no_row = 9 }                   # rule -> rows
labels.emotion = { angry = 376 }            # label -> value -> rows
utterances_by_speaker = { Actor_01 = 104 }
splits.test = { utterances = 10, ... }      # the same of the rows that the corpus' own table puts there

[anomalies]
silent = ["1076_MTI_SAD_XX"]                # flag -> the ids that get it; glob patterns
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mesm_data.corpora.parsing import Notes
from mesm_data.corpora.release_check import compare
from mesm_data.corpora.table.scan import corpus_from_table
from mesm_data.schema.built_in import built_in_facts, built_in_schema
from mesm_data.schema.recordings import SYNTHETIC, Corpus, Recording, Utterance

MAX_SHOWN = 8  # differences in the notes

Rows = Sequence[tuple[Recording, Utterance]]


def corpus_from_rows(name: str, root: Path, rows: Iterable[Mapping[str, str]], notes: Notes) -> Corpus:
    """The corpus `name` from rows of text cells under canonical column names; an absent cell is empty.

    The flags of the known anomalies are added. The first note says whether this is the release as it is known.
    Raises InputError like `corpus_from_table`.
    """
    import pandas as pd

    schema = built_in_schema(name)
    frame = pd.DataFrame(list(rows), dtype=str).fillna("")
    columns = (scheme.columns or (scheme.column or label,) for label, scheme in schema.labels.items())
    for column in ("flags", *(column for group in columns for column in group)):
        if column not in frame:
            frame[column] = ""
    known = known_flags(built_in_facts(name).get("anomalies", {}), frame["id"])
    frame["flags"] = frame["flags"] + frame["id"].map(lambda id_: "".join(f";{flag}" for flag in known.get(id_, ())))
    corpus = corpus_from_table(
        frame, schema, root, where=f"{schema.title or name} in {root}", notes=tuple(notes.sentences())
    )
    return replace(corpus, notes=(*release_check(corpus), *corpus.notes))


def known_flags(anomalies: Mapping[str, Sequence[str]], ids: Iterable[str]) -> dict[str, list[str]]:
    """The flags of each id that has any, in the order of `anomalies`."""
    ids, found = set(ids), dict[str, list[str]]()
    for flag, patterns in anomalies.items():
        for pattern in patterns:
            whole = not re.search(r"[*?[]", pattern)
            for id_ in ids & {pattern} if whole else {id_ for id_ in ids if fnmatchcase(id_, pattern)}:
                found.setdefault(id_, []).append(flag)
    return found


def release_check(corpus: Corpus) -> list[str]:
    """Notes that compare a copy with the counts of the release: the first differences, or one that there is none.

    A synthetic corpus is not compared.
    """
    if (corpus.root / SYNTHETIC).exists():
        return []
    known = built_in_facts(corpus.name)["counts"]
    rows = [(recording, utterance) for recording in corpus.recordings for utterance in recording.utterances]
    pairs = list(_numbers(rows, known, ""))
    notes = compare({name: here for name, here, _ in pairs}, {name: there for name, _, there in pairs})
    if not notes:
        return [f"as released: {known['utterances']} utterances; all {len(pairs)} counts are as they are known"]
    more = len(notes) - MAX_SHOWN
    return [*notes[:MAX_SHOWN], *([f"{more} more counts differ from the release as it is known"] if more > 0 else [])]


def _numbers(rows: Rows, known: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, int, int]]:
    """Every number of `known`: its name, its value in `rows`, and its known value."""
    excluded = Counter(_reason(utterance, "excluded") for _, utterance in rows)
    kept = [(recording, utterance) for recording, utterance in rows if _reason(utterance, "excluded") is None]
    utterances = [utterance for _, utterance in kept]
    totals = {
        "utterances": len(kept),
        "dialogs": len({utterance.dialog for utterance in utterances}),
        "speakers": len({utterance.speaker for utterance in utterances}),
        "sessions": len({utterance.session for utterance in utterances}),
        "videos": sum(recording.video is not None for recording, _ in kept),
        "sounds": sum(any(sound.path != recording.video for sound in one.audio) for recording, one in kept),
        "failed": sum(_reason(utterance, "failed") is not None for utterance in utterances),
    }
    yield from ((f"{prefix}{name}", totals[name], known[name]) for name in totals if name in known)
    for rule, number in known.get("excluded", {}).items():
        yield f"{prefix}excluded by {rule}", excluded[rule], number
    for label, numbers in known.get("labels", {}).items():
        yield from _table(f"{prefix}{label}", _values(utterances, label), numbers)
    by_speaker = Counter(utterance.speaker or "" for utterance in utterances)
    if "utterances_by_speaker" in known:
        yield from _table(f"{prefix}utterances of", by_speaker, known["utterances_by_speaker"])
    for part, inner in known.get("splits", {}).items():
        yield from _numbers([row for row in rows if row[1].split == part], inner, f"{part}: ")


def _table(name: str, here: Mapping[str, int], known: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    for value in dict.fromkeys((*known, *here)):
        yield f"{name} {value}", here.get(value, 0), known.get(value, 0)


def _values(utterances: Iterable[Utterance], label: str) -> Counter[str]:
    values = (utterance.labels[label] for utterance in utterances)
    return Counter(value for cell in values for value in (cell if isinstance(cell, list) else [cell]) if value)


def _reason(utterance: Utterance, status: str) -> str | None:
    return utterance.unbuilt[1] if utterance.unbuilt and utterance.unbuilt[0] == status else None

"""Is this IEMOCAP as it was released? What a scan found against the counts in the corpus' manifest."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mesm_data.corpora.release_check import compare
from mesm_data.schema.built_in import built_in_facts
from mesm_data.schema.recordings import Utterance

NAMED = 5  # ids in a note


def differences(utterances: Iterable[Utterance]) -> list[str]:
    """Notes on all five sessions: a sentence for every difference from the release, or one that says there is none."""
    utterances = list(utterances)
    known = built_in_facts("iemocap")
    notes = compare(counts(utterances), expected(known["counts"]))
    notes += alignments(utterances, known["anomalies"]["no_alignment"])
    if notes:
        return notes
    total = known["counts"]
    return [
        f"as released: {total['dialogs']} dialogs and {total['utterances']} utterances; every session, label and "
        "speaker's letter, scripted and improvised turns, texts, and those without alignment as they should be"
    ]


def expected(known: Mapping[str, Any]) -> dict[str, int]:
    """The counts of the manifest under the names that `counts` uses."""
    names = {name: known[name] for name in ("dialogs", "utterances", "scripted", "improvised")}
    names["utterances with text"] = known["texts"]
    for session, numbers in known["sessions"].items():
        names |= {f"{what} of {session}": numbers[what] for what in ("dialogs", "utterances")}
    names |= {f"label {label}": number for label, number in known["labels"].items()}
    return names | {f"utterances of speakers {letter}": number for letter, number in known["speaker_letters"].items()}


def counts(utterances: Iterable[Utterance]) -> dict[str, int]:
    """What there is, by name."""
    found: Counter[str] = Counter()
    dialogs = set()
    for utterance in utterances:
        session = f"Session{utterance.session}"
        kind = "scripted" if "_script" in utterance.dialog else "improvised"
        found.update(["utterances", kind, f"utterances of {session}", f"label {utterance.labels['emotion']}"])
        found[f"utterances of speakers {str(utterance.speaker)[-1]}"] += 1
        found["utterances with text"] += bool(utterance.text)
        dialogs.add((session, utterance.dialog))
    found.update(name for session, _ in dialogs for name in ("dialogs", f"dialogs of {session}"))
    return dict(found)


def alignments(utterances: Iterable[Utterance], known: Iterable[str]) -> list[str]:
    """Sentences about utterances without forced alignment that should have one, and the other way round."""
    aligned = {utterance.id: utterance.words is not None for utterance in utterances}
    known = set(known)
    notes = []
    if lacking := sorted(id_ for id_, has in aligned.items() if not has and id_ not in known):
        named = ", ".join(lacking[:NAMED]) + (" ..." if len(lacking) > NAMED else "")
        notes.append(f"without forced alignment, which the release has: {len(lacking)} utterances ({named})")
    if more := sorted(id_ for id_, has in aligned.items() if has and id_ in known):
        notes.append(f"with a forced alignment, which the release as it is known does not have: {', '.join(more)}")
    return notes

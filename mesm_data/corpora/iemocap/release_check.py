"""Comparison of a scanned IEMOCAP with the known counts of the release (iemocap.toml), and what the copy lacks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mesm_data.corpora.release_check import compare_counts
from mesm_data.schema.built_in import built_in_facts
from mesm_data.schema.recordings import Recording, Utterance

MAX_IDS = 5  # in a note


def compare_with_release(utterances: Iterable[Utterance]) -> list[str]:
    """Compare all five sessions with the release: a sentence for each difference, or one that there is none."""
    utterances = list(utterances)
    known = built_in_facts("iemocap")
    notes = compare_counts(count_utterances(utterances), release_counts(known["counts"]))
    notes += alignment_notes(utterances, known["anomalies"]["no_alignment"])
    if notes:
        return notes
    total = known["counts"]
    return [
        f"as released: {total['dialogs']} dialogs and {total['utterances']} utterances; every session, label and "
        "speaker's letter, scripted and improvised turns, texts, and alignments are as released"
    ]


def release_counts(known: Mapping[str, Any]) -> dict[str, int]:
    """Return the known counts under the names of `count_utterances`."""
    names = {name: known[name] for name in ("dialogs", "utterances", "scripted", "improvised")}
    names["utterances with text"] = known["texts"]
    for session, numbers in known["sessions"].items():
        names |= {f"{what} of {session}": numbers[what] for what in ("dialogs", "utterances")}
    names |= {f"label {label}": number for label, number in known["labels"].items()}
    return names | {f"utterances of speakers {letter}": number for letter, number in known["speaker_letters"].items()}


def count_utterances(utterances: Iterable[Utterance]) -> dict[str, int]:
    """Count the utterances by session, kind, label and speaker."""
    counts: Counter[str] = Counter()
    dialogs = set()
    for utterance in utterances:
        session = f"Session{utterance.session}"
        kind = "scripted" if "_script" in utterance.dialog else "improvised"
        counts.update(["utterances", kind, f"utterances of {session}", f"label {utterance.labels['emotion']}"])
        counts[f"utterances of speakers {str(utterance.speaker)[-1]}"] += 1
        counts["utterances with text"] += bool(utterance.text)
        dialogs.add((session, utterance.dialog))
    counts.update(name for session, _ in dialogs for name in ("dialogs", f"dialogs of {session}"))
    return dict(counts)


def alignment_notes(utterances: Iterable[Utterance], known: Iterable[str]) -> list[str]:
    """Return sentences about unexpectedly missing, and unexpectedly present, forced alignments."""
    aligned = {utterance.id: utterance.words is not None for utterance in utterances}
    known = set(known)
    notes = []
    if missing := sorted(id_ for id_, is_aligned in aligned.items() if not is_aligned and id_ not in known):
        ids = ", ".join(missing[:MAX_IDS]) + (" ..." if len(missing) > MAX_IDS else "")
        notes.append(f"without forced alignment, which the release has: {len(missing)} utterances ({ids})")
    if unexpected := sorted(id_ for id_, is_aligned in aligned.items() if is_aligned and id_ in known):
        notes.append(
            f"with a forced alignment, which the release as it is known does not have: {', '.join(unexpected)}"
        )
    return notes


def missing_data_notes(recordings: Sequence[Recording]) -> list[str]:
    """Return sentences about utterances to build without an evaluation or a wav, and about dialogs without a video."""
    usable = [u for recording in recordings for u in recording.utterances if u.exclusion is None]
    dialog_wav = [u.id for u in usable if u.audio and u.audio[0].channel_per_speaker]
    unrated = [u.id for u in usable if "no_evaluation" in u.flags]
    missing = (
        ("utterances have no evaluation: their label is null (flag no_evaluation)", len(usable), unrated),
        ("dialogs have no video", len(recordings), [recording.id for recording in recordings if not recording.video]),
        ("utterances have no sentence wav: their channel of the dialog wav is used", len(usable), dialog_wav),
        ("utterances have no sound file", len(usable), [u.id for u in usable if not u.audio]),
    )
    return [f"{len(ids)} of {total} {what}; the first is {ids[0]}" for what, total, ids in missing if ids]

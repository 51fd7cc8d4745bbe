"""Notes on a copy of CMU-MOSEI as a whole: how it differs from the release, and how many clips are not usable."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from mesm_data.corpora.mosei.layout import Layout
from mesm_data.corpora.mosei.ratings import EMOTIONS, is_labelled
from mesm_data.corpora.release_check import compare_counts, missing_text_notes
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.schema.recordings import SYNTHETIC_MARKER, Corpus, Exclusion

UNLABELLED = Exclusion("excluded", "unlabelled")
NO_CLIP = Exclusion("excluded", "no_clip")
NO_TIMES = Exclusion("failed", "no times are known: it has neither a line in a transcript nor a row in the label file")
LABEL_FLAGS = ("empty_answers", "not_in_csd", "csd_differs")  # of doubtful labels


def label_file_hint(layout: Layout) -> list[str]:
    """Return a hint if there are .csd files above the copy's root, where they are not read."""
    if "csd" in layout.folders:
        return []
    above = layout.tree.root.resolve().parent
    files = [name for name in SourceTree(above).files(".") if name.endswith(".csd")]
    return [f"{above} contains {', '.join(files[:3])}: name that folder to read them"] if files else []


def describe_copy(
    corpus: Corpus, videos: Collection[str], sound: Collection[str], counts: Mapping[str, Any]
) -> list[str]:
    """Describe how a copy differs from the release, and how many clips lack something.

    Args:
        corpus: the scanned copy.
        videos: ids of the videos whose whole video is there.
        sound: ids of the videos whose whole audio is there.
        counts: the known counts of the release.
    """
    utterances = corpus.utterances()
    labelled = [u for u in utterances if is_labelled(u.labels) and u.exclusion != NO_CLIP]
    dialogs = {utterance.dialog for utterance in labelled}
    here = {"labelled clips": len(labelled), "videos with labelled clips": len(dialogs)}
    for emotion in EMOTIONS:
        here[f"clips with {emotion}"] = sum((u.labels[emotion] or 0) > 0 for u in labelled)
    here["clips without an emotion"] = sum(not any(u.labels[emotion] for emotion in EMOTIONS) for u in labelled)
    known = {
        "labelled clips": counts["utterances"],
        "videos with labelled clips": counts["videos"],
        **{f"clips with {emotion}": counts["emotions"][emotion] for emotion in EMOTIONS},
        "clips without an emotion": counts["none"],
    }
    notes = []
    # A part of the corpus, or a synthetic one, is not compared number by number.
    if not (corpus.root / SYNTHETIC_MARKER).exists():
        is_part = 2 * len(dialogs) < counts["videos"]
        part_note = [f"{len(dialogs)} of {counts['videos']} labelled videos are here"]
        notes += part_note if is_part else compare_counts(here, known)
    for kind, files in (("video", videos), ("sound", sound)):
        if missing := sorted(dialogs.difference(files)):
            notes.append(f"{len(missing)} labelled videos have no whole {kind}, the first is {missing[0]}")
    exclusions = Counter(u.exclusion for u in utterances if u.exclusion)
    notes += [f"{number} clips: {exclusion.reason}" for exclusion, number in exclusions.items()]
    notes += missing_text_notes(labelled)
    flags = Counter(flag for u in labelled for flag in u.flags if flag in LABEL_FLAGS)
    return notes + [f"{count} clips have the flag {flag}" for flag, count in sorted(flags.items())]

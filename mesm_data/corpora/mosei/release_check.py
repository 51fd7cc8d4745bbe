"""What is said of a copy of CMU-MOSEI as a whole: against the corpus as it is known, and by the rules for its rows."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from mesm_data.corpora.mosei.layout import Layout
from mesm_data.corpora.mosei.ratings import EMOTIONS, is_labelled
from mesm_data.corpora.release_check import compare, lacking_text
from mesm_data.corpora.source_tree import Tree
from mesm_data.schema.recordings import SYNTHETIC, Corpus

# (status, reason) of the rows that are not built.
UNLABELLED = ("excluded", "unlabelled")
NO_CLIP = ("excluded", "no_clip")
DOUBTS = ("empty_answers", "not_in_csd", "csd_differs")
NO_TIMES = ("failed", "no times are known: it has neither a line in a transcript nor a row in the label file")


def beside(layout: Layout) -> list[str]:
    """A word on label files that lie beside the folder that was given."""
    if "csd" in layout.folders:
        return []
    above = layout.tree.root.resolve().parent
    files = [name for name in Tree(above).files(".") if name.endswith(".csd")]
    return [f"{above} holds {', '.join(files[:3])}: give that folder to have them read"] if files else []


def summary(corpus: Corpus, videos: Collection[str], sound: Collection[str], counts: Mapping[str, Any]) -> list[str]:
    """How this copy differs from what is known of the corpus, and how many clips are not as they should be.

    `videos` and `sound` hold the ids whose whole video or sound is here.
    """
    every = corpus.utterances()
    labelled = [u for u in every if is_labelled(u.labels) and u.unbuilt != NO_CLIP]
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
    said = []
    # A part of the corpus, or an imitation, is not the corpus with errors.
    if not (corpus.root / SYNTHETIC).exists():
        half = 2 * len(dialogs) < counts["videos"]
        said += [f"{len(dialogs)} of {counts['videos']} labelled videos are here"] if half else compare(here, known)
    for kind, files in (("video", videos), ("sound", sound)):
        if absent := sorted(dialogs.difference(files)):
            said.append(f"{len(absent)} labelled videos have no {kind} of the whole, the first is {absent[0]}")
    said += [f"{n} clips: {reason}" for (_, reason), n in Counter(u.unbuilt for u in every if u.unbuilt).items()]
    said += lacking_text(labelled)
    doubts = Counter(flag for u in labelled for flag in u.flags if flag in DOUBTS)
    return said + [f"{count} clips have the flag {flag}" for flag, count in sorted(doubts.items())]

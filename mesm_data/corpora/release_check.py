"""Comparison of a scanned corpus with what is known about its release."""

from collections.abc import Iterable, Mapping

from mesm_data.schema.recordings import Utterance


def compare_counts(counts: Mapping[str, int], known: Mapping[str, int]) -> list[str]:
    """Return one sentence for each number that differs; a missing name counts as 0.

    The order is that of `known`, followed by the names that only `counts` has.
    """
    return [
        f"{name}: {counts.get(name, 0)} here, {known.get(name, 0)} in the release as it is known"
        for name in dict.fromkeys((*known, *counts))
        if counts.get(name, 0) != known.get(name, 0)
    ]


def missing_text_notes(utterances: Iterable[Utterance]) -> list[str]:
    """Return a sentence about the utterances to build that have no text, or none if all of them have."""
    usable = [utterance for utterance in utterances if utterance.exclusion is None]
    without = [utterance for utterance in usable if not utterance.text]
    if not without:
        return []
    dialogs, affected = ({utterance.dialog for utterance in group} for group in (usable, without))
    return [
        f"{len(without)} of {len(usable)} utterances have no text (flag no_transcript), in {len(affected)} of "
        f"{len(dialogs)} dialogs; the first is {without[0].id}"
    ]

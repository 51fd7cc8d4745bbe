"""What was counted in a corpus, against what is known of it."""

from collections.abc import Iterable, Mapping

from mesm_data.schema.recordings import Utterance


def compare(found: Mapping[str, int], known: Mapping[str, int]) -> list[str]:
    """One sentence for every number that differs, in the order of `known`, then what only `found` has. 0 is absent."""
    return [
        f"{name}: {found.get(name, 0)} here, {known.get(name, 0)} in the release as it is known"
        for name in dict.fromkeys((*known, *found))
        if found.get(name, 0) != known.get(name, 0)
    ]


def lacking_text(utterances: Iterable[Utterance]) -> list[str]:
    """A sentence on the utterances without a text, of those that can be built, if there are any."""
    every = [utterance for utterance in utterances if utterance.unbuilt is None]
    without = [utterance for utterance in every if not utterance.text]
    if not without:
        return []
    dialogs, among = ({utterance.dialog for utterance in some} for some in (every, without))
    return [
        f"{len(without)} of {len(every)} utterances have no text (flag no_transcript), in {len(among)} of "
        f"{len(dialogs)} dialogs; the first is {without[0].id}"
    ]

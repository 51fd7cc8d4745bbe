"""What was counted in a corpus, against what is known of it."""

from collections.abc import Mapping


def compare(found: Mapping[str, int], known: Mapping[str, int]) -> list[str]:
    """One sentence for every number of `known` that `found` has otherwise, or lacks; none if they agree.

    The names are the words of the sentence: {"utterances": 10039} -> "utterances: 10038 here, 10039 in the corpus as it
    is known (-1)".
    """
    return [
        f"{name}: {found.get(name, 0)} here, {number} in the corpus as it is known ({found.get(name, 0) - number:+d})"
        for name, number in known.items()
        if found.get(name, 0) != number
    ]

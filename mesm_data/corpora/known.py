"""What was counted in a corpus, against what is known of it."""

from collections.abc import Mapping


def compare(found: Mapping[str, int], known: Mapping[str, int]) -> list[str]:
    """One sentence for every number that differs, in the order of `known`, then what only `found` has. 0 is absent."""
    return [
        f"{name}: {found.get(name, 0)} here, {known.get(name, 0)} in the release as it is known"
        for name in dict.fromkeys((*known, *found))
        if found.get(name, 0) != known.get(name, 0)
    ]

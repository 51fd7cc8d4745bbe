"""The options of a build that decide its content: the same recipe on the same source gives the same shards."""

from dataclasses import asdict, dataclass
from typing import Any

from mesm_data.media.options import MediaOptions
from mesm_data.storage.json_files import canonical_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(MediaOptions):
    """What a dataset is made of; recorded whole in dataset.json.

    Raises:
        InputError: An option is out of bounds.
    """

    corpus: str
    only: str | None = None  # glob over utterance ids; the others are excluded by the rule "only"
    limit: int | None = None  # the first N utterances, in the corpus' order; the others are excluded by "limit"
    shard_bytes: int = 128 * 2**20
    split: dict[str, str] | None = None  # whose parts group the files: its name, and the digest of its lists

    def as_dict(self) -> dict[str, Any]:
        """All options, and what identifies the detector."""
        return {**asdict(self), "detector": self.detector_digest()}


def describe_difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first option in which two recorded recipes differ, as words; None if they are the same."""
    for name in sorted({*before, *now}):
        if canonical_json(before.get(name)) != canonical_json(now.get(name)):
            return f"{name} is {before.get(name)!r} there and {now.get(name)!r} now"
    return None


def describe_toolchain_difference(before: dict[str, str], now: dict[str, str]) -> str | None:
    """The first version in which two toolchains differ, as words; but for those that change no byte of a build."""
    without = {"python": "", "torch": ""}
    return describe_difference({**before, **without}, {**now, **without})

"""The options of a build that determine its content: the same recipe and source give identical shards."""

from dataclasses import asdict, dataclass
from typing import Any

from mesm_data.media.options import MediaOptions
from mesm_data.storage.json_files import canonical_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(MediaOptions):
    """The options of a build, recorded completely in dataset.json.

    Raises:
        InputError: An option is out of bounds.
    """

    corpus: str
    only: str | None = None  # glob for utterance ids; other utterances are excluded by the rule "only"
    limit: int | None = None  # the first N utterances in the corpus' order; the others are excluded by the rule "limit"
    shard_bytes: int = 128 * 2**20
    split: dict[str, str] | None = None  # the split that groups the files: its name, and the digest of its lists

    def as_dict(self) -> dict[str, Any]:
        """All options, and the digest of the detector."""
        return {**asdict(self), "detector": self.detector_digest()}


def describe_difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Describe the first option in which two recorded recipes differ; None if they are equal."""
    for name in sorted({*before, *now}):
        if canonical_json(before.get(name)) != canonical_json(now.get(name)):
            return f"{name} is {before.get(name)!r} there and {now.get(name)!r} now"
    return None


def describe_toolchain_difference(before: dict[str, str], now: dict[str, str]) -> str | None:
    """Describe the first version in which two toolchains differ; None if a build would be identical."""
    ignored = {"python": "", "torch": ""}  # they change no byte of a build
    return describe_difference({**before, **ignored}, {**now, **ignored})

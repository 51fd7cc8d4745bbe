"""The options of a build that decide its content: the same recipe on the same source gives the same shards."""

import re
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from mesm_data.errors import InputError
from mesm_data.files import canonical_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a dataset is made of; recorded whole in dataset.json."""

    corpus: str
    clips: bool = True  # write video/
    only: str | None = None  # glob over utterance ids; the others are excluded by the rule "only"
    limit: int | None = None  # the first N utterances, in the corpus' order; the others are excluded by "limit"
    video_offset: str = "0"  # seconds, a decimal number, added to an utterance's times where the video is cut
    frame_interval: str = "0.5"  # seconds between face crops, as a decimal number
    face_size: int = 48  # pixels; 48, margin 2 and 500 ms are the published model's (Dai et al. 2021)
    face_margin: int = 2
    min_face_size: int = 40
    shard_bytes: int = 128 * 2**20
    split: dict[str, str] | None = None  # whose parts group the files: its name, and the digest of its lists

    def as_dict(self) -> dict[str, Any]:
        """All options, and what identifies the detector."""
        from mesm_data.media.mtcnn import Detector

        return {**asdict(self), "detector": Detector(min_face_size=self.min_face_size).digest}


def seconds(text: str) -> str:
    """A number of seconds such as -0.167 in its one spelling. Raises InputError if it is none."""
    if not re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)", text.strip(), re.ASCII):
        raise InputError(f"{text!r} is not a number of seconds: write it as 0.25 or -0.167")
    number = Decimal(text.strip()).normalize()
    return f"{number:f}" if number else "0"


def difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first option in which two recorded recipes differ, as words; None if they are the same."""
    for name in sorted({*before, *now}):
        if canonical_json(before.get(name)) != canonical_json(now.get(name)):
            return f"{name} is {before.get(name)!r} there and {now.get(name)!r} now"
    return None


def other_toolchain(before: dict[str, str], now: dict[str, str]) -> str | None:
    """The first version in which two toolchains differ, as words; but for those that change no byte of a build."""
    without = {"python": "", "torch": ""}
    return difference({**before, **without}, {**now, **without})

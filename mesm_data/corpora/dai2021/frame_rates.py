"""Inference of the images' rate from their number and the length of the audio."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Common video frame rates, and 2, which the paper's text suggests for MOSEI.
RATES = (2.0, 5.0, 10.0, 12.0, 12.5, 15.0, 20.0, 24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60000 / 1001, 60.0)
# If at least this share of the utterances fits one rate, the others are assumed to be incomplete.
_COMMON_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCount:
    """The images of an utterance.

    Attributes:
        seconds: length of the audio; None if unknown.
        declared_rate: the rate in meta.pkl; None if there is none.
    """

    count: int
    seconds: float | None
    declared_rate: float | None

    def fits(self, rate: float) -> bool:
        """Whether the number of images agrees with `rate`, give or take one."""
        return self.seconds is not None and abs(self.count - rate * self.seconds) <= 1 + 1e-9


def infer_frame_rates(counts: Mapping[str, ImageCount]) -> tuple[dict[str, float], list[str]]:
    """Infer the images per second of each utterance, as far as possible, and notes on how they were inferred."""
    known = [images for images in counts.values() if images.count and images.seconds]
    declared = sorted(
        {images.declared_rate for images in counts.values() if images.declared_rate and 0 < images.declared_rate <= 240}
    )
    common = _common_rate(known, [*declared, *RATES])
    rates = {id_: rate for id_, images in counts.items() if images.count and (rate := common or _own_rate(images))}
    return rates, list(_notes(rates, common, known))


def _common_rate(known: list[ImageCount], candidates: list[float]) -> float | None:
    """Return the rate that nearly all utterances fit; of several, the one with the most fits and the smallest error."""
    fitting = Counter(rate for images in known for rate in candidates if images.fits(rate))
    if not fitting:
        return None
    errors = {rate: sum(abs(images.count - rate * (images.seconds or 0)) for images in known) for rate in fitting}
    best = max(fitting, key=lambda rate: (fitting[rate], -errors[rate]))
    return best if fitting[best] >= _COMMON_SHARE * len(known) else None


def _own_rate(images: ImageCount) -> float | None:
    """Return the rate of one utterance: declared if it fits, else the nearest common one that fits, else measured."""
    if not images.seconds:
        return images.declared_rate
    measured = images.count / images.seconds
    if images.declared_rate and images.fits(images.declared_rate):
        return images.declared_rate
    fitting = [rate for rate in RATES if images.fits(rate)]
    return min(fitting, key=lambda rate: abs(rate - measured)) if fitting else round(measured, 3)


def _notes(rates: Mapping[str, float], common: float | None, known: list[ImageCount]) -> Iterator[str]:
    if common:
        others = sum(not images.fits(common) for images in known)
        exceptions = f"; {others} utterances do not fit it and are taken for incomplete" if others else ""
        yield f"images: {common:.3f} a second, found from their number and the length of the sound{exceptions}"
        return
    counts = Counter(f"{rate:.3f}" if rate in RATES else "other" for rate in rates.values())
    if listed := ", ".join(f"{rate} ({count} utterances)" for rate, count in counts.most_common(8)):
        yield f"images: no common rate, each utterance has its own; a second: {listed}"


def parse_number(value: Any) -> float | None:
    """Return a finite number, also from a string; None for anything else."""
    try:
        result = float(value) if isinstance(value, (int, float, str)) else None
    except (ValueError, OverflowError):
        return None
    return result if result is not None and abs(result) < 1e9 else None

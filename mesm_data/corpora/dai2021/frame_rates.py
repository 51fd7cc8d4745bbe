"""How many images a second there are of each utterance, found from their number and the length of its sound."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Rates at which videos are shown, and 2, the one that the paper's text suggests for MOSEI.
RATES = (2.0, 5.0, 10.0, 12.0, 12.5, 15.0, 20.0, 24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60000 / 1001, 60.0)
# If this share of the utterances fits one rate, those that do not are taken for broken off, not for another rate.
_COMMON = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How many images an utterance has, the `seconds` of its sound, and the rate that is `said` of them."""

    count: int
    seconds: float | None
    said: float | None

    def fit(self, rate: float) -> bool:
        """Whether this is the number of images that `rate` gives, one more or less."""
        return self.seconds is not None and abs(self.count - rate * self.seconds) <= 1 + 1e-9


def rates_of(found: Mapping[str, Counted]) -> tuple[dict[str, float], list[str]]:
    """Images a second by utterance, where that can be said, and how it was found, as notes."""
    known = [each for each in found.values() if each.count and each.seconds]
    said = sorted({each.said for each in found.values() if each.said and 0 < each.said <= 240})
    common = _common_rate(known, [*said, *RATES])
    rates = {id_: rate for id_, each in found.items() if each.count and (rate := common or _own_rate(each))}
    return rates, list(_notes(rates, common, known))


def _common_rate(known: list[Counted], candidates: list[float]) -> float | None:
    """The rate that nearly all fit, the closest one of those that most do."""
    fitting = Counter(rate for each in known for rate in candidates if each.fit(rate))
    if not fitting:
        return None
    off = {rate: sum(abs(each.count - rate * (each.seconds or 0)) for each in known) for rate in fitting}
    best = max(fitting, key=lambda rate: (fitting[rate], -off[rate]))
    return best if fitting[best] >= _COMMON * len(known) else None


def _own_rate(images: Counted) -> float | None:
    """One utterance's rate: what is said of it if it fits, else the nearest usual rate that fits, else as it is."""
    if not images.seconds:
        return images.said
    own = images.count / images.seconds
    if images.said and images.fit(images.said):
        return images.said
    fitting = [rate for rate in RATES if images.fit(rate)]
    return min(fitting, key=lambda rate: abs(rate - own)) if fitting else round(own, 3)


def _notes(rates: Mapping[str, float], common: float | None, known: list[Counted]) -> Iterator[str]:
    if common:
        others = sum(not each.fit(common) for each in known)
        but = f"; {others} utterances do not fit it and are taken for incomplete" if others else ""
        yield f"images: {common:.3f} a second, found from their number and the length of the sound{but}"
        return
    counts = Counter(f"{rate:.3f}" if rate in RATES else "other" for rate in rates.values())
    if listed := ", ".join(f"{rate} ({count} utterances)" for rate, count in counts.most_common(8)):
        yield f"images: no common rate, each utterance has its own; a second: {listed}"


def number(value: Any) -> float | None:
    """A finite number, or text that is one."""
    try:
        found = float(value) if isinstance(value, (int, float, str)) else None
    except (ValueError, OverflowError):
        return None
    return found if found is not None and abs(found) < 1e9 else None

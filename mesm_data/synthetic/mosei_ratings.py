"""Ratings of a clip of CMU-MOSEI by three or more workers: six emotions from 0 to 3, sentiment from -3 to 3."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

# Code of voice, face and sentences -> the corpus' name, in the order of the answers' columns.
NAMES = {
    "ang": "anger",
    "dis": "disgust",
    "fea": "fear",
    "hap": "happiness",
    "sad": "sadness",
    "sur": "surprise",
}
EMOTIONS = tuple(NAMES)
# Emotions that may occur together.
TOGETHER = {
    "ang": ("dis", "sad"),
    "dis": ("ang", "sad"),
    "fea": ("sad", "sur"),
    "hap": ("sur",),
    "sad": ("ang", "fea"),
    "sur": ("hap", "fea"),
}
# Mean sentiment of the workers.
SENTIMENT = {"ang": -1.7, "dis": -1.9, "fea": -1.0, "hap": 1.9, "sad": -1.6, "sur": 0.5}
MORE_SHARE = 0.12  # of the clips have 4 to 6 workers
STRAY_SHARE = 0.02  # of the answers name another emotion than intended


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """One worker's answers; the keys of `emotions` are the corpus' names."""

    worker: str
    emotions: dict[str, int]
    sentiment: int


def rate(meant: Sequence[str], rng: Random) -> tuple[Votes, ...]:
    """Draw the answers for a clip with no, one or two intended emotions, the first one strongest. Some are all zero."""
    count = rng.choice((4, 5, 6)) if rng.random() < MORE_SHARE else 3
    workers = rng.sample(range(40), count)
    stray = STRAY_SHARE if meant else 0.0
    return tuple(_votes(f"SYNTHETIC{worker:02}", meant, stray, rng) for worker in workers)


def _votes(worker: str, meant: Sequence[str], stray: float, rng: Random) -> Votes:
    emotions = {}
    for emotion, name in NAMES.items():
        centre = (2.2, 1.3)[meant.index(emotion)] if emotion in meant else float(rng.random() < stray)
        emotions[name] = min(3, max(0, round(rng.gauss(centre, 0.6 if emotion in meant else 0.0))))
    around = sum(SENTIMENT[emotion] for emotion in meant) / max(1, len(meant))
    return Votes(worker=worker, emotions=emotions, sentiment=min(3, max(-3, round(rng.gauss(around, 0.6)))))

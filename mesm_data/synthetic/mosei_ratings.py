"""What three or more workers say about a clip of CMU-MOSEI: six emotions from 0 to 3, sentiment from -3 to 3."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

# The code of the voice, the face and the sentences -> the corpus' name, in the order of its answers' columns.
NAMES = {
    "ang": "anger",
    "dis": "disgust",
    "fea": "fear",
    "hap": "happiness",
    "sad": "sadness",
    "sur": "surprise",
}
EMOTIONS = tuple(NAMES)
# Emotions that are meant together.
TOGETHER = {
    "ang": ("dis", "sad"),
    "dis": ("ang", "sad"),
    "fea": ("sad", "sur"),
    "hap": ("sur",),
    "sad": ("ang", "fea"),
    "sur": ("hap", "fea"),
}
# Sentiment around which the workers lie.
SENTIMENT = {"ang": -1.7, "dis": -1.9, "fea": -1.0, "hap": 1.9, "sad": -1.6, "sur": 0.5}
MORE_SHARE = 0.12  # of the clips have 4 to 6 workers
STRAY_SHARE = 0.02  # of the answers name an emotion that was not meant


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """One worker's answers: `emotions` by the corpus' names."""

    worker: str
    emotions: dict[str, int]
    sentiment: int


def rate(meant: Sequence[str], rng: Random) -> tuple[Votes, ...]:
    """The answers about a clip that means no, one or two emotions, the first most. Some clips get only zeros."""
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

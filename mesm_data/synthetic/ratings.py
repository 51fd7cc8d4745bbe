"""Ratings of a turn of IEMOCAP, drawn so that the majority is its label."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean

MAIN = ("ang", "exc", "fru", "hap", "neu", "sad")
NO_MAJORITY = "xxx"
OTHERS: tuple[tuple[str, float], ...] = ((NO_MAJORITY, 0.6), ("sur", 0.18), ("fea", 0.1), ("oth", 0.08), ("dis", 0.04))
CATEGORIES = {
    "neu": "Neutral",
    "fru": "Frustration",
    "exc": "Excited",
    "hap": "Happiness",
    "ang": "Anger",
    "sad": "Sadness",
    "sur": "Surprise",
    "fea": "Fear",
    "dis": "Disgust",
    "oth": "Other",
}
# What a dissenting rater hears instead.
CONFUSED = {
    "neu": ("fru", "sad", "hap"),
    "fru": ("ang", "neu", "sad"),
    "exc": ("hap", "sur"),
    "hap": ("exc", "neu"),
    "ang": ("fru", "dis"),
    "sad": ("neu", "fru"),
    "sur": ("exc", "neu"),
    "fea": ("sad", "sur"),
    "dis": ("ang", "fru"),
    "oth": ("neu", "sad"),
}
# Mean valence, activation and dominance (1 to 5) of each emotion.
VAD = {
    "neu": (3.0, 2.5, 2.8),
    "fru": (2.2, 3.0, 3.2),
    "exc": (4.1, 3.9, 3.4),
    "hap": (4.1, 3.1, 3.0),
    "ang": (1.7, 3.9, 3.9),
    "sad": (2.0, 2.0, 2.4),
    "sur": (3.2, 3.6, 2.8),
    "fea": (2.0, 3.5, 2.0),
    "dis": (1.8, 2.9, 3.3),
    "oth": (2.8, 2.7, 2.9),
}
COMMENTS = (
    "a bit tired",
    "polite, a little annoyed",
    "not sure; could be relief",
    "sarcastic (I think)",
    "overlaps with the partner; hard to hear",
    "starts calm, then louder",
)
COMMENT_SHARE, SECOND_CATEGORY_SHARE, NO_DOMINANCE_SHARE, EMPTY_CATEGORY_SHARE = 0.08, 0.12, 0.03, 0.01
# Which actors of a session rated themselves; in the corpus nobody in session 4.
SELF_RATERS = {1: "FM", 2: "F", 3: "FM", 4: "", 5: "M"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Categorical:
    """One rater's categories as words; "" for an empty one. E1, E2 ... are evaluators, F1 or M1 is the actor."""

    rater: str
    categories: tuple[str, ...]
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """One rater's valence, activation and dominance, 1 to 5; dominance can be missing."""

    rater: str
    val: int
    act: int
    dom: int | None
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """All ratings of one turn, in the order of the file."""

    categorical: tuple[Categorical, ...]
    attributes: tuple[Attributes, ...]

    @property
    def vad(self) -> tuple[float, float, float]:
        """The means over the evaluators, as in the header of a turn."""
        watched = [rating for rating in self.attributes if rating.rater.startswith("E")]
        dominance = [rating.dom for rating in watched if rating.dom is not None]
        return fmean(rating.val for rating in watched), fmean(rating.act for rating in watched), fmean(dominance)


def majority(ratings: Sequence[Categorical]) -> str:
    """Return the category that more than half of the evaluators name; "xxx" if there is none or several."""
    watched = [rating for rating in ratings if rating.rater.startswith("E")]
    named = Counter(word for rating in watched for word in set(rating.categories))
    agreed = [word for word, count in named.items() if 2 * count > len(watched)]
    codes = {word: code for code, word in CATEGORIES.items()}
    return codes[agreed[0]] if len(agreed) == 1 else NO_MAJORITY


def rate(label: str, meant: str, *, session: int, speaker: str, rng: Random) -> Ratings:
    """Draw ratings of a turn of actor `speaker` (F or M): the majority is `label`, the attributes are near `meant`."""
    own = [f"{speaker}{session}"] if speaker in SELF_RATERS[session] else []
    while True:
        named = zip(("E2", "E3", "E4"), _three(label, rng), strict=True)
        watched = tuple(_categorical(rater, chosen, rng) for rater, chosen in named)
        if majority(watched) == label:
            break
    own_categories = tuple(_self_categorical(name, meant, rng) for name in own)
    attributes = tuple(_attributes(name, meant, rng) for name in ("E3", "E4", *own))
    return Ratings(categorical=watched + own_categories, attributes=attributes)


def _three(label: str, rng: Random) -> list[str]:
    if label == NO_MAJORITY:
        return rng.sample(tuple(CATEGORIES), 3)
    third = label if rng.random() < 0.5 else rng.choice(CONFUSED[label])
    return rng.sample((label, label, third), 3)


def _categorical(rater: str, chosen: str, rng: Random) -> Categorical:
    words = [CATEGORIES[chosen]]
    if rng.random() < SECOND_CATEGORY_SHARE:
        words.append(CATEGORIES[rng.choice(CONFUSED[chosen])])
    return Categorical(rater=rater, categories=tuple(words), comment=_comment(rng))


def _self_categorical(rater: str, meant: str, rng: Random) -> Categorical:
    if rng.random() < EMPTY_CATEGORY_SHARE:
        return Categorical(rater=rater, categories=("Other", ""), comment=_comment(rng))
    return _categorical(rater, meant if rng.random() < 0.8 else rng.choice(CONFUSED[meant]), rng)


def _attributes(rater: str, meant: str, rng: Random) -> Attributes:
    val, act, dom = (min(5, max(1, round(rng.gauss(centre, 0.6)))) for centre in VAD[meant])
    known = (
        rater == "E3" or rng.random() >= NO_DOMINANCE_SHARE
    )  # at least one rater, because the header contains the mean
    return Attributes(rater=rater, val=val, act=act, dom=dom if known else None, comment=_comment(rng))


def _comment(rng: Random) -> str:
    return rng.choice(COMMENTS) if rng.random() < COMMENT_SHARE else ""

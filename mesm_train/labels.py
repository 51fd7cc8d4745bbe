"""Label views: what a model is asked about an utterance. The classes of each view stand in the corpus' manifest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import mesm_manifests
import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError

RULES = ("label", "means", "votes")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A choice of classes over a corpus' labels, one-vs-rest: each class is a question of its own.

    `sources[i]` names what counts as `classes[i]`. `rule` says how answers come from an utterance's labels:

    label   yes for the class of the label (IEMOCAP: what a majority of raters named), no for the others. Labels in
            `none` are no to all; any other label, and null, is not in the view
    means   yes for every emotion with a mean rating above 0 (CMU-MOSEI); not in the view is what nobody rated
    votes   the share of the raters' votes for each class, see `votes`; not in the view is what no external rater named
    """

    corpus: str
    name: str
    classes: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]
    rule: str = "label"
    none: tuple[str, ...] = ()

    @property
    def exclusive(self) -> bool:
        """Whether exactly one class is true of each utterance, so that the most probable class is an answer."""
        return self.rule == "label" and not self.none

    @property
    def soft(self) -> bool:
        """Whether targets are shares, not 0 or 1."""
        return self.rule == "votes"

    def target(self, labels: Mapping[str, Any]) -> NDArray[np.float32] | None:
        """What is true of an utterance: float32 (n_classes,) from 0 to 1; None if it is not in the view.

        `labels` is the record in the sample's JSON and in the manifest's rows.
        """
        if self.rule == "votes":
            return votes(labels.get("raters") or (), self.sources)
        if self.rule == "means":
            emotions = labels.get("emotions")
            if emotions is None or all(mean is None for mean in emotions.values()):
                return None
            # "Present if the mean rating is above 0" is the corpus' own rule (README of the CMU-MOSEI SDK).
            told = {name for name, mean in emotions.items() if mean is not None and mean > 0}
        else:
            told = {labels.get("label")}
        target = np.array([not told.isdisjoint(names) for names in self.sources], np.float32)
        outside = self.rule == "label" and not target.any() and told.isdisjoint(self.none)
        return None if outside else target


def votes(raters: Iterable[Mapping[str, Any]], sources: tuple[tuple[str, ...], ...]) -> NDArray[np.float32] | None:
    """The share of the raters' votes for each class, float32 (n_classes,); None if there is no vote.

    Every external rater (self-evaluation is left out) who names a category has one vote, and gives 1/k of it to each of
    the k different words that he names; an empty word is none. `sources` are the words of each class, whatever their
    case; a word of no class takes its part of the vote with it, so that the sum may be below 1.

    C-E2:	Neutral; Anger;	(a comment)       half a vote for each
    """
    classes = {word.casefold(): index for index, words in enumerate(sources) for word in words}
    shares, voters = np.zeros(len(sources)), 0
    for rater in raters:
        # An A- line (of dimensions) has no categories at all.
        named = {word.strip().casefold() for word in rater["categories"] or () if word.strip()}
        if rater["self"] or not named:
            continue
        voters += 1
        for word in named:
            if word in classes:
                shares[classes[word]] += 1 / len(named)
    return (shares / voters).astype(np.float32) if voters else None


def truth(targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Targets as 0 or 1, for scores and thresholds: true is a class with a share above one half."""
    return (targets > 0.5).astype(np.float32)


def views(corpus: str) -> list[str]:
    """The names of a corpus' views."""
    return list(_manifest(corpus)["views"])


def view(corpus: str, name: str) -> View:
    """The view `name` of a corpus. Raises InputError, naming the nearest and all there are, if there is none."""
    manifest = _manifest(corpus)
    if name not in manifest["views"]:
        known = list(manifest["views"])
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"{corpus} has no label view {name!r}: {hint}There are {', '.join(known)}")
    said = manifest["views"][name]
    table = said["classes"]
    rule = said.get("rule", "label")
    assert rule in RULES
    return View(
        corpus=corpus,
        name=name,
        classes=tuple(table),
        sources=tuple(tuple(names) for names in table.values()),
        rule=rule,
        none=tuple(said.get("none", ())),
    )


def _manifest(corpus: str) -> dict[str, Any]:
    try:
        return mesm_manifests.load(corpus)
    except ValueError as error:
        raise InputError(str(error)) from None

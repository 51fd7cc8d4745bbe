"""Views: what a model is asked about an utterance, and the target that follows from its labels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mesm_data.schema.labels import Name, Text, pairs_to_mapping

Target = Literal["category", "multilabel", "positive", "rater_share", "share", "number"]
Task = Literal["one_vs_rest", "single", "number"]


class ViewSpec(BaseModel):
    """A view as a corpus' TOML or dataset.json states it; `CorpusSchema.view` resolves it.

    Attributes:
        label: the scheme asked about (targets category, multilabel, rater_share); or
        labels: several number schemes (target number).
        classes: class -> the values (positive, share: the number schemes) that count as it; default: one class a value.
        none: values that are no class, yet in the view: the answer to every class is no.
        target: how targets are computed; default by the scheme's type.
        task: one_vs_rest (a sigmoid a class), single (one softmax over exclusive classes) or number (regression).
        utterances, counts: how many utterances of a complete release are in the view, and in each class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Text = ""
    label: Name | None = None
    labels: tuple[Name, ...] = ()
    classes: dict[Name, tuple[Text, ...]] = Field(default_factory=dict, max_length=1000)
    none: tuple[Text, ...] = ()
    target: Target | None = None
    task: Task | None = None
    utterances: int | None = None
    counts: dict[Name, int] | None = None

    @field_validator("classes", mode="before")
    @classmethod
    def _classes_as_mapping(cls, classes: Any) -> Any:
        return pairs_to_mapping(classes, ()) if isinstance(classes, list | tuple) else classes


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A resolved view: `sources[i]` are the values that count as `classes[i]`.

    Targets by `target`:
        category: 1 for the class of the label `label`, 0 for the others. Values in `none` are 0 for all; any other
            value, and null, is not in the view.
        multilabel: 1 for every class with a value in the label `label`; null is not in the view.
        positive: 1 for every class with a number above 0 (for CMU-MOSEI: a mean rating above 0); not in the view is
            an utterance without any of these numbers.
        rater_share: the share of the raters' votes for each class, see `votes`; not in the view is an utterance
            without a vote.
        share: likewise, from number schemes that hold the shares; those of one class are added. Not in the view is an
            utterance that lacks one.
        number: the values of the number schemes themselves; not in the view is an utterance that lacks one.
    """

    corpus: str
    name: str
    label: str | None
    classes: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]
    target_rule: Target = "category"
    task: Task = "one_vs_rest"
    none: tuple[str, ...] = ()

    @property
    def exclusive(self) -> bool:
        """Whether exactly one class is true of each utterance, so that the highest logit is an answer."""
        return self.target_rule == "category" and not self.none

    @property
    def soft(self) -> bool:
        """Whether targets are shares, not 0 or 1."""
        return self.target_rule in ("rater_share", "share")

    def target(self, labels: Mapping[str, Any]) -> NDArray[np.float32] | None:
        """The target of an utterance, float32 (n_classes,); None if the utterance is not in the view.

        `labels` is the record in the sample's JSON and in the manifest's rows.
        """
        value = labels.get(self.label) if self.label else None
        if self.target_rule == "rater_share":
            assert self.label is not None
            return votes(labels.get("raters") or (), self.label, self.sources)
        if self.target_rule == "number":
            numbers = [labels.get(source) for (source,) in self.sources]
            return None if None in numbers else np.array(numbers, np.float32)
        if self.target_rule == "share":
            if any(labels.get(name) is None for names in self.sources for name in names):
                return None
            return np.array([sum(labels[name] for name in names) for names in self.sources], np.float32)
        if self.target_rule == "positive":
            means = {name: labels.get(name) for names in self.sources for name in names}
            if all(mean is None for mean in means.values()):
                return None
            present = {name for name, mean in means.items() if mean is not None and mean > 0}
        elif value is None:
            return None
        else:
            present = set(value) if self.target_rule == "multilabel" else {value}
        target = np.array([not present.isdisjoint(names) for names in self.sources], np.float32)
        outside = self.target_rule == "category" and not target.any() and present.isdisjoint(self.none)
        return None if outside else target


def votes(
    raters: Iterable[Mapping[str, Any]], label: str, sources: tuple[tuple[str, ...], ...]
) -> NDArray[np.float32] | None:
    """The share of the raters' votes for each class, float32 (n_classes,); None if there is no vote.

    Every external rater (self-evaluation is left out) who names a category has one vote, and gives 1/k of it to each of
    the k different words that they name; an empty word is none. `sources` are the words of each class, whatever their
    case; a word of no class takes its part of the vote with it, so that the sum may be below 1.

    C-E2:	Neutral; Anger;	(a comment)       half a vote for each
    """
    classes = {word.casefold(): index for index, words in enumerate(sources) for word in words}
    shares, voters = np.zeros(len(sources)), 0
    for rater in raters:
        # An A- line (of dimensions) has no categories at all.
        named = {word.strip().casefold() for word in rater[label] or () if word.strip()}
        if rater["self"] or not named:
            continue
        voters += 1
        for word in named:
            if word in classes:
                shares[classes[word]] += 1 / len(named)
    return (shares / voters).astype(np.float32) if voters else None

"""Views: the classes or numbers that a model predicts, and the target that follows from an utterance's labels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mesm_data.errors import InputError
from mesm_data.schema.labels import Name, Text, pairs_to_mapping

ROUNDING = 0.01  # shares of several columns may add up to a little more than 1
Target = Literal["category", "multilabel", "positive", "rater_share", "share", "number"]
Task = Literal["one_vs_rest", "single", "number"]


class ViewSpec(BaseModel):
    """A view in a corpus' TOML file or in dataset.json; `CorpusSchema.view` resolves it.

    Attributes:
        label: the label scheme (for the targets category, multilabel, rater_share); or
        labels: several number schemes (for the target number).
        classes: class -> its values (positive, share: its number schemes); default: one class per value.
        none: values of utterances that are in the view but in none of the classes: their target is 0 everywhere.
        target: how the target is computed; the default follows from the scheme's type.
        task: one_vs_rest (one sigmoid per class), single (one softmax over exclusive classes) or number (regression).
        utterances, counts: number of utterances of a complete release in the view, and in each class.
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
    """A resolved view: `sources[i]` are the values of `classes[i]`.

    The target by `target_rule`:
        category: 1 for the class of the value of `label`, 0 for the others. Values in `none` give 0 everywhere; any
            other value, and null, is outside the view.
        multilabel: 1 for every class with a value in `label`; null is outside the view.
        positive: 1 for every class with a number above 0 (CMU-MOSEI: a mean rating above 0); an utterance without
            any of these numbers is outside the view.
        rater_share: the share of the raters' votes for each class, see `rater_shares`; an utterance without a vote is
            outside the view.
        share: the same from number schemes that contain the shares; those of one class are added. An utterance that
            lacks one is outside the view.
        number: the values of the number schemes; an utterance that lacks one is outside the view.
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
        """Whether each utterance has exactly one class, so that the argmax of the logits is a prediction."""
        return self.target_rule == "category" and not self.none

    @property
    def soft(self) -> bool:
        """Whether targets are soft: shares between 0 and 1."""
        return self.target_rule in ("rater_share", "share")

    def target(self, labels: Mapping[str, Any]) -> NDArray[np.float32] | None:
        """Compute the target of an utterance, float32 (n_classes,); None if the utterance is outside the view.

        Args:
            labels: the `labels` record of the sample's JSON or of a manifest row.
        """
        value = labels.get(self.label) if self.label else None
        if self.target_rule == "rater_share":
            assert self.label is not None
            return rater_shares(labels.get("raters") or (), self.label, self.sources)
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

    def check_shares(self, target: NDArray[np.float32] | None) -> None:
        """Raise InputError if the target of an utterance has shares that are not between 0 and 1, such as votes."""
        if self.target_rule != "share" or target is None or ((target >= 0) & (target <= 1 + ROUNDING)).all():
            return
        shares = ", ".join(f"{name} {share:g}" for name, share in zip(self.classes, target, strict=True))
        raise InputError(
            f"label view {self.name} has the shares {shares}: a share is between 0 and 1; divide votes by their "
            "number, percentages by 100"
        )


def rater_shares(
    raters: Iterable[Mapping[str, Any]], label: str, sources: tuple[tuple[str, ...], ...]
) -> NDArray[np.float32] | None:
    """Compute the share of the raters' votes for each class, float32 (n_classes,); None if there is no vote.

    Each external rater (self-evaluations are skipped) who names a category has one vote and gives 1/k of it to each of
    the k distinct words; empty words are skipped. `sources` are the words of each class, compared without case. A word
    of no class keeps its part of the vote, so the sum may be below 1.

    C-E2:	Neutral; Anger;	(a comment)       half a vote each
    """
    class_of = {word.casefold(): index for index, source in enumerate(sources) for word in source}
    shares, voters = np.zeros(len(sources)), 0
    for rater in raters:
        # An A- line (dimensions) has no categories.
        words = {word.strip().casefold() for word in rater[label] or () if word.strip()}
        if rater["self"] or not words:
            continue
        voters += 1
        for word in words:
            if word in class_of:
                shares[class_of[word]] += 1 / len(words)
    return (shares / voters).astype(np.float32) if voters else None

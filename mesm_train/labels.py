"""Label views: what a model is asked about an utterance. The classes of each view stand in the corpus' manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import mesm_manifests
import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A choice of classes over a corpus' labels, one-vs-rest: each class is a yes/no question of its own.

    `sources[i]` names what counts as `classes[i]`. `exclusive`: exactly one class is true of an utterance (IEMOCAP: the
    label of the majority); otherwise any number may be (CMU-MOSEI: every emotion with a mean rating above 0).
    """

    corpus: str
    name: str
    classes: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]
    exclusive: bool

    def target(self, labels: Mapping[str, Any]) -> NDArray[np.float32] | None:
        """What is true of an utterance: float32 (n_classes,) of 0 and 1; None if it is not in the view.

        `labels` is the record in the sample's JSON and in the manifest's rows. Not in an exclusive view are labels that
        it does not name (xxx, no agreement, in all of IEMOCAP's) and null; not in the other kind, an utterance without
        ratings. One that was rated, with no emotion above 0, is in it: a row of zeros.
        """
        if self.exclusive:
            told = {labels.get("label")}
        else:
            emotions = labels.get("emotions")
            if emotions is None:
                return None
            # "Present if the mean rating is above 0" is the corpus' own rule (README of the CMU-MOSEI SDK).
            told = {name for name, mean in emotions.items() if mean is not None and mean > 0}
        target = np.array([not told.isdisjoint(names) for names in self.sources], np.float32)
        return None if self.exclusive and not target.any() else target


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
    return View(
        corpus=corpus,
        name=name,
        classes=tuple(table),
        sources=tuple(tuple(names) for names in table.values()),
        exclusive=said.get("exclusive", True),
    )


def _manifest(corpus: str) -> dict[str, Any]:
    try:
        return mesm_manifests.load(corpus)
    except ValueError as error:
        raise InputError(str(error)) from None

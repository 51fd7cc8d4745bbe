"""What a run predicts: one or several label views, each with the head that its loss gives it.

The logits of a model are the columns of all heads behind each other. The first view is the primary one: its scores
select the epoch and stand in tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.schema.views import View
from mesm_train.config.settings import LOSSES

Kind = Literal["binary", "multiclass", "number"]
KINDS: dict[str, Kind] = {"bce": "binary", "focal": "binary", "softmax": "multiclass", "mae": "number", "ccc": "number"}
DEFAULT_LOSS = {"one_vs_rest": "bce", "single": "softmax", "number": "mae"}  # by the task of a view


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One view and its loss.

    Attributes:
        columns: its columns of logits and targets.
        outputs: their names: the view's classes; of a view that is not the first, with its name before them.
    """

    view: View
    loss: str
    columns: slice
    outputs: tuple[str, ...]

    @property
    def kind(self) -> Kind:
        """binary: a yes/no question per class. multiclass: one of the classes. number: a value per output."""
        return KINDS[self.loss]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """All heads of a run, in the order of their columns. `name` is the setting `labels`."""

    name: str
    heads: tuple[Head, ...]

    @property
    def primary(self) -> Head:
        """The head of the first view."""
        return self.heads[0]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of all columns."""
        return tuple(name for head in self.heads for name in head.outputs)

    def target(self, labels: Mapping[str, Any]) -> NDArray[np.float32] | None:
        """The targets of an utterance, float32 (outputs,); None if it is outside one of the views."""
        targets = [head.view.target(labels) for head in self.heads]
        known = [target for target in targets if target is not None]
        return np.concatenate(known) if len(known) == len(targets) else None

    def summary(self) -> dict[str, Any]:
        """What identifies them, ready for JSON."""
        heads = [{"view": head.view.name, "loss": head.loss, "kind": head.kind} for head in self.heads]
        return {"view": self.name, "classes": list(self.outputs), "heads": heads}


def resolve_heads(schema: CorpusSchema, labels: str, loss: str = "auto") -> Heads:
    """The heads that the settings `labels` and `loss` ask for.

    Args:
        schema: The corpus' label views.
        labels: Names of views, joined by "+".
        loss: One of LOSSES for all views, or one for each, joined by "+".

    Raises:
        InputError: There is no such view, or its head cannot take the loss.
    """
    names, losses = labels.split("+"), loss.split("+")
    if len(losses) == 1:
        losses *= len(names)
    if len(losses) != len(names) or len(set(names)) != len(names):
        raise InputError(
            f"labels {labels!r} with loss {loss!r}: give each label view once, and one loss, or one for each of them"
        )
    heads, first = list[Head](), 0
    for name, setting in zip(names, losses, strict=True):
        view = schema.view(name)
        chosen = DEFAULT_LOSS[view.task] if setting == "auto" else setting
        _check_loss(view, chosen)
        outputs = view.classes if not heads else tuple(f"{name}.{output}" for output in view.classes)
        heads.append(Head(view=view, loss=chosen, columns=slice(first, first + len(outputs)), outputs=outputs))
        first += len(outputs)
    return Heads(name=labels, heads=tuple(heads))


def _check_loss(view: View, loss: str) -> None:
    if loss not in KINDS:
        raise InputError(f"loss {loss!r}: expected {', '.join(LOSSES)}")
    kind, is_number = KINDS[loss], view.task == "number"
    if is_number != (kind == "number"):
        fitting = [name for name, other in KINDS.items() if (other == "number") == is_number]
        what = "numbers" if is_number else "classes"
        raise InputError(f"loss {loss} cannot train label view {view.name!r} of {what}: choose {', '.join(fitting)}")
    if kind == "multiclass" and not view.exclusive:
        raise InputError(
            f"loss softmax needs exactly one class of each utterance, and label view {view.name!r} of {view.corpus} "
            "may have none or several: choose bce or focal, or another view"
        )


def truth(targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Targets of classes as 0 or 1, for scores and thresholds: true is a class with a share above one half."""
    return (targets > 0.5).astype(np.float32)


def one_key_per_output(targets: Mapping[str, NDArray[np.float32]], dataset: Dataset, outputs: int) -> list[str]:
    """Choose examples: for each output the first utterance that has it, preferably with face and sound.

    Args:
        targets: float32 (at least `outputs`,) of each utterance, in the order of preference.
        dataset: The dataset that holds the utterances.
        outputs: The number of outputs to choose for; a number counts as present above one half.

    Returns:
        Different keys; the first four if no utterance has any output.
    """
    chosen = []
    for column in range(outputs):
        positive = [key for key, target in targets.items() if target[column] > 0.5]
        rows = {key: dataset.rows[key] for key in positive}
        complete = [key for key, row in rows.items() if row["n_faces"] and row["n_samples"]]
        chosen += (complete or positive)[:1]
    return list(dict.fromkeys(chosen)) or list(targets)[:4]

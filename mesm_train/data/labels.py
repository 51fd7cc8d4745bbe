"""Targets of a label view as training takes them."""

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.schema.views import View


def trainable_view(schema: CorpusSchema, name: str) -> View:
    """The view `name` of a corpus. Raises InputError if there is none, or if the trainer has no loss for it yet."""
    view = schema.view(name)
    if view.task != "one_vs_rest":
        possible = [other for other in schema.views if schema.view(other).task == "one_vs_rest"]
        raise InputError(
            f"label view {name!r} of {schema.name} is of the task {view.task!r}, for which there is no loss yet: "
            f"one-vs-rest views can be trained ({', '.join(possible) or 'this corpus has none'})"
        )
    return view


def truth(targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Targets as 0 or 1, for scores and thresholds: true is a class with a share above one half."""
    return (targets > 0.5).astype(np.float32)

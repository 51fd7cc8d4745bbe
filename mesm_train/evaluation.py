"""Answers of a model to a part of the split, and what they are worth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mesm_data.files import atomic_write
from mesm_train import metrics
from mesm_train.data.plan import in_order
from mesm_train.setup import Setup

EVAL_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """`logits` and `labels`: float32 (n, classes), in the order of `keys`. `loss`: mean over answers, unweighted."""

    keys: tuple[str, ...]
    logits: NDArray[np.float32]
    labels: NDArray[np.float32]
    loss: float


@torch.no_grad()
def answer(setup: Setup, part: str) -> Answers:
    """The model's answers to every utterance of a part, each once, in evaluation mode."""
    model = setup.model.eval()
    keys: list[str] = []
    logits, labels = [], []
    for batch in setup.loader.batches(in_order(setup.keys[part], batch=EVAL_BATCH)):
        keys += batch.keys
        logits.append(model(batch.to(setup.device)).float().cpu())
        labels.append(batch.labels)
    scores, truth = torch.cat(logits), torch.cat(labels)
    loss = float(functional.binary_cross_entropy_with_logits(scores, truth))
    return Answers(keys=tuple(keys), logits=scores.numpy(), labels=truth.numpy(), loss=loss)


def score(setup: Setup, answers: Answers, limits: NDArray[np.float64]) -> dict[str, Any]:
    """What metrics.evaluate says of answers, with the thresholds `limits` (classes,)."""
    view = setup.view
    return metrics.evaluate(answers.logits, answers.labels, limits, view.classes, exclusive=view.exclusive)


def write_predictions(path: Path, setup: Setup, answers: Answers) -> None:
    """predictions-<part>.parquet: key, and a logit and a label column for each class."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"key": list(answers.keys)}
    for index, name in enumerate(setup.view.classes):
        columns[f"logit_{name}"] = answers.logits[:, index]
        columns[f"label_{name}"] = answers.labels[:, index]
    with atomic_write(path) as file:
        pq.write_table(pa.table(columns), file)

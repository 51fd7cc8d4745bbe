"""Answers of a model to a part of the split, and what they are worth."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional

from mesm_data.storage.files import atomic_write
from mesm_train.data.labels import truth
from mesm_train.data.plan import sorted_batches
from mesm_train.evaluation import metrics
from mesm_train.training.setup import Setup

EVAL_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model said, and what is true, in the order of `keys`. `loss`: mean over answers, unweighted."""

    keys: tuple[str, ...]
    logits: NDArray[np.float32]  # (n, classes)
    targets: NDArray[np.float32]  # (n, classes), 0 to 1: what the loss is against
    labels: NDArray[np.float32]  # (n, classes), 0 or 1: what scores and thresholds are against
    loss: float


@torch.no_grad()
def answer(setup: Setup, part: str) -> Answers:
    """The model's answers to every utterance of a part, each once, in evaluation mode; all of them on every rank.

    The batches are the same whatever the number of ranks, which take turns: so are the answers, bit for bit.
    """
    model, ranks = setup.model.eval(), setup.ranks
    plan = sorted_batches(setup.keys[part], setup.dataset.shard, batch=EVAL_BATCH)
    shares = [plan[rank :: ranks.world] for rank in range(ranks.world)]
    with ranks.same_error_everywhere():
        logits = [model(batch.to(setup.device)).float().cpu() for batch in setup.loader.batches(shares[ranks.rank])]
    mine = torch.cat(logits) if logits else torch.zeros(0, len(setup.view.classes))
    rows = ranks.gather_rows(mine, [sum(map(len, share)) for share in shares])
    given = {
        key: row for share, own in zip(shares, rows, strict=True) for key, row in zip(chain(*share), own, strict=True)
    }
    keys = tuple(sorted(given))
    scores = torch.stack([given[key] for key in keys])
    wanted = np.stack([setup.loader.targets[key] for key in keys])
    loss = float(functional.binary_cross_entropy_with_logits(scores, torch.from_numpy(wanted)))
    return Answers(keys=keys, logits=scores.numpy(), targets=wanted, labels=truth(wanted), loss=loss)


def score(setup: Setup, answers: Answers, limits: ArrayLike, pos_weight: ArrayLike) -> dict[str, Any]:
    """What metrics.evaluate says of answers, with the thresholds and the weights of positives, (classes,) each."""
    view = setup.view
    return metrics.evaluate(
        answers.logits, answers.labels, limits, view.classes, exclusive=view.exclusive, pos_weight=pos_weight
    )


def write_predictions(path: Path, setup: Setup, answers: Answers) -> None:
    """predictions-<part>.parquet: key; for each class a logit, a label (0 or 1), and of a soft view the share."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"key": list(answers.keys)}
    for index, name in enumerate(setup.view.classes):
        columns[f"logit_{name}"] = answers.logits[:, index]
        columns[f"label_{name}"] = answers.labels[:, index]
        if setup.view.soft:
            columns[f"share_{name}"] = answers.targets[:, index]
    with atomic_write(path) as file:
        pq.write_table(pa.table(columns), file)

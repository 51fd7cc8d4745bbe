"""Predictions of a model on a part of the split, and their scores."""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mesm_train.data.labels import Head, Heads, truth
from mesm_train.data.plan import sorted_batches
from mesm_train.evaluation.number_scores import number_scores
from mesm_train.evaluation.score_values import Scores
from mesm_train.evaluation.scores import binary_scores, multiclass_scores
from mesm_train.evaluation.thresholds import choose_thresholds
from mesm_train.training.losses import TargetStatistics, batch_loss
from mesm_train.training.setup import Setup

EVAL_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What a model predicts, and what is true, in the order of `keys`.

    Attributes:
        logits: float32 (n, outputs); of a number, its value in the units of the labels.
        targets: float32 (n, outputs), what the loss compares with.
        loss: the mean over the utterances, without weights of positives.
    """

    keys: tuple[str, ...]
    logits: NDArray[np.float32]
    targets: NDArray[np.float32]
    loss: float

    @property
    def labels(self) -> NDArray[np.float32]:
        """Targets as 0 or 1, what scores and thresholds of classes compare with."""
        return truth(self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What turns the logits of a run into decisions, float64 (outputs,) each; thresholds.json holds it.

    Attributes:
        thresholds: of yes/no questions; 0.5 for other outputs, which need none.
        pos_weight: weights of positives in the loss.
        offset, scale: of numbers, see TargetStatistics.
    """

    thresholds: NDArray[np.float64]
    pos_weight: NDArray[np.float64]
    offset: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def choose(cls, heads: Heads, predictions: Predictions, statistics: TargetStatistics, grid: Any) -> "Calibration":
        """The thresholds of `grid` with the best F1 on these predictions, which are those of the validation part."""
        thresholds = np.full(len(heads.outputs), 0.5)
        for head in heads.heads:
            if head.kind == "binary":
                own = head.columns
                thresholds[own] = choose_thresholds(predictions.logits[:, own], predictions.labels[:, own], grid)
        return cls(
            thresholds=thresholds,
            pos_weight=statistics.pos_weight.double().numpy(),
            offset=statistics.offset.double().numpy(),
            scale=statistics.scale.double().numpy(),
        )

    @classmethod
    def read(cls, stored: dict[str, Any]) -> "Calibration":
        """That of the content of thresholds.json, which has the shape run_files.THRESHOLDS."""
        count = len(stored["thresholds"])
        neutral = {"pos_weight": 1.0, "offset": 0.0, "scale": 1.0}
        arrays = {name: np.array(stored.get(name, [value] * count), np.float64) for name, value in neutral.items()}
        return cls(thresholds=np.array(stored["thresholds"], np.float64), **arrays)

    def as_dict(self) -> dict[str, list[float]]:
        """Ready for JSON."""
        return {name: getattr(self, name).tolist() for name in ("thresholds", "pos_weight", "offset", "scale")}

    @property
    def statistics(self) -> TargetStatistics:
        """The statistics of the train part that a model's outputs are to be read with."""
        arrays = (self.pos_weight, self.offset, self.scale)
        pos_weight, offset, scale = (torch.from_numpy(array.astype(np.float32)) for array in arrays)
        return TargetStatistics(pos_weight=pos_weight, offset=offset, scale=scale)


@torch.no_grad()
def predict(setup: Setup, part: str, statistics: TargetStatistics) -> Predictions:
    """The model's predictions for every utterance of a part, each once, in evaluation mode; all of them on every rank.

    The batches are the same whatever the number of ranks, which take turns: so are the predictions, bit for bit.

    Args:
        setup: The run; its model predicts.
        part: train, valid or test.
        statistics: Of the train part, on the CPU.
    """
    model, ranks = setup.model.eval(), setup.ranks
    plan = sorted_batches(setup.keys[part], setup.dataset.shard, batch=EVAL_BATCH)
    shares = [plan[rank :: ranks.world] for rank in range(ranks.world)]
    with ranks.same_error_everywhere():
        logits = [model(batch.to(setup.device)).float().cpu() for batch in setup.loader.batches(shares[ranks.rank])]
    mine = torch.cat(logits) if logits else torch.zeros(0, len(setup.heads.outputs))
    gathered = ranks.gather_rows(mine, [sum(map(len, share)) for share in shares])
    row_of = {
        key: row
        for share, rows in zip(shares, gathered, strict=True)
        for key, row in zip(chain(*share), rows, strict=True)
    }
    keys = tuple(sorted(row_of))
    outputs = torch.stack([row_of[key] for key in keys])
    targets = np.stack([setup.loader.targets[key] for key in keys])
    unweighted = TargetStatistics(
        pos_weight=torch.ones_like(statistics.pos_weight), offset=statistics.offset, scale=statistics.scale
    )
    loss = float(batch_loss(setup.heads, outputs, torch.from_numpy(targets), unweighted, len(keys)))
    return Predictions(keys=keys, logits=statistics.in_units(outputs).numpy(), targets=targets, loss=loss)


def score(heads: Heads, predictions: Predictions, calibration: Calibration) -> Scores:
    """The scores of the primary view; those of the others by name under `further`."""
    all_scores = [_score(head, predictions, calibration) for head in heads.heads]
    further = {head.view.name: scores for head, scores in zip(heads.heads[1:], all_scores[1:], strict=True)}
    return {**all_scores[0], "further": further} if further else all_scores[0]


def _score(head: Head, predictions: Predictions, calibration: Calibration) -> Scores:
    own, names = head.columns, head.view.classes
    logits = predictions.logits[:, own]
    if head.kind == "number":
        return number_scores(logits, predictions.targets[:, own], names)
    labels = predictions.labels[:, own]
    if head.kind == "multiclass":
        return multiclass_scores(logits, labels, names)
    thresholds, pos_weight = calibration.thresholds[own], calibration.pos_weight[own]
    return binary_scores(logits, labels, thresholds, names, exclusive=head.view.exclusive, pos_weight=pos_weight)


def selection_value(scores: Scores, loss: float, epoch: int, by: str) -> float | None:
    """What the best epoch has the most of: the score that eval.select_by names, or the loss or an error, negated."""
    if by == "loss":
        return -loss
    if by == "last":
        return float(epoch)
    metric = {"number": "ccc"}.get(scores["task"], "f1") if by == "auto" else by
    value: float | None = scores["mean"][metric]
    return -value if metric == "mae" and value is not None else value

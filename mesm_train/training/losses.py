"""The losses of a run's heads, and the statistics of the train part that they need."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mesm_data.errors import InputError
from mesm_train.data.labels import Heads
from mesm_train.data.sampler import draw_weights
from mesm_train.training.selection import Selection

FOCUS = 2.0  # gamma of the focal loss, the published value (Lin et al. 2017)
CCC_EPS = 1e-8  # a batch of one, or of equal targets, has no variance


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStatistics:
    """Of each output, float32 (outputs,), on the CPU.

    Attributes:
        pos_weight: negatives / positives in the train part, for bce and focal; 1 elsewhere.
        offset, scale: mean and standard deviation of a number in the train part. A model's output of 0 is the mean, of
            1 one standard deviation above it, so that a fresh model starts in the middle. 0 and 1 for classes.
    """

    pos_weight: Tensor
    offset: Tensor
    scale: Tensor

    def to(self, device: torch.device) -> "TargetStatistics":
        """The same on `device`."""
        return TargetStatistics(
            pos_weight=self.pos_weight.to(device), offset=self.offset.to(device), scale=self.scale.to(device)
        )

    def in_units(self, outputs: Tensor) -> Tensor:
        """A model's outputs (n, outputs) with numbers in the units of their labels; logits stay."""
        return outputs * self.scale + self.offset


def target_statistics(selection: Selection) -> TargetStatistics:
    """Those of the train part, as the sampler draws it.

    Raises InputError if a class is nowhere or everywhere true there, or a number is the same everywhere.
    """
    keys = sorted(selection.keys["train"])
    targets = np.stack([selection.targets[key] for key in keys]).astype(np.float64)
    weights = draw_weights(selection.groups(), len(keys))[:, None]
    total = weights.sum()
    pos_weight, offset, scale = np.ones(targets.shape[1]), np.zeros(targets.shape[1]), np.ones(targets.shape[1])
    for head in selection.heads.heads:
        own = targets[:, head.columns]
        if head.kind == "number":
            _refuse_constant_numbers(head.outputs, own)
            offset[head.columns], scale[head.columns] = own.mean(axis=0), own.std(axis=0)
            continue
        positives = (weights * own).sum(axis=0)
        _refuse_constant(head.outputs, positives, (1 - own).sum(axis=0), len(keys))
        if head.kind == "binary" and selection.config.optim.pos_weight:
            pos_weight[head.columns] = (total - positives) / positives
    return TargetStatistics(pos_weight=_tensor(pos_weight), offset=_tensor(offset), scale=_tensor(scale))


def _refuse_constant(
    names: tuple[str, ...], positives: NDArray[np.float64], negatives: NDArray[np.float64], total: int
) -> None:
    for counts, subject, lack in ((positives, "no", "positives"), (negatives, "every", "negatives")):
        if constant := [name for name, count in zip(names, counts, strict=True) if count <= 0]:
            raise InputError(
                f"{subject} utterance of the train part ({total}) is {' or '.join(constant)}: a class without {lack} "
                "cannot be trained; choose another split or label view: --set split=…, --set labels=…"
            )


def _refuse_constant_numbers(names: tuple[str, ...], values: NDArray[np.float64]) -> None:
    if constant := [name for name, own in zip(names, values.T, strict=True) if (own == own[0]).all()]:
        raise InputError(
            f"{' and '.join(constant)} is the same number in every utterance of the train part ({len(values)}): "
            "nothing can be learnt of it; choose another split or label view: --set split=…, --set labels=…"
        )


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def batch_loss(heads: Heads, outputs: Tensor, targets: Tensor, statistics: TargetStatistics, count: int) -> Tensor:
    """The loss of a batch's share of a step: the sum over its utterances, divided by the `count` of the whole step.

    So the shares of several ranks add up to the mean over the step, however it was dealt; except with ccc, which is
    computed over the share and weighted by its size. Several heads have equal weight.

    Args:
        heads: What the columns are.
        outputs: float32 (n, outputs), as the model gives them.
        targets: float32 (n, outputs).
        statistics: Of the train part, on the same device.
        count: Utterances of the step, over all ranks.
    """
    normalised = (targets - statistics.offset) / statistics.scale
    total = outputs.new_zeros(())
    for head in heads.heads:
        own, goal, weight = outputs[:, head.columns], normalised[:, head.columns], statistics.pos_weight[head.columns]
        total = total + _sum(head.loss, own, goal, weight)
    return total / (count * len(heads.heads))


def _sum(loss: str, outputs: Tensor, targets: Tensor, pos_weight: Tensor) -> Tensor:
    """Over the utterances, of the mean over the outputs of one head."""
    width = outputs.shape[1]
    if loss == "softmax":
        return functional.cross_entropy(outputs, targets, reduction="sum")
    if loss == "mae":
        return functional.l1_loss(outputs, targets, reduction="sum") / width
    if loss == "ccc":
        return len(outputs) * (1 - _ccc(outputs, targets)).mean() if len(outputs) else outputs.sum()
    if loss == "bce":
        return (
            functional.binary_cross_entropy_with_logits(outputs, targets, pos_weight=pos_weight, reduction="sum")
            / width
        )
    cross_entropy = functional.binary_cross_entropy_with_logits(
        outputs, targets, pos_weight=pos_weight, reduction="none"
    )
    probability = torch.sigmoid(outputs)
    of_truth = probability * targets + (1 - probability) * (1 - targets)
    return ((1 - of_truth) ** FOCUS * cross_entropy).sum() / width


def _ccc(outputs: Tensor, targets: Tensor) -> Tensor:
    """The concordance correlation of each column, (outputs,)."""
    mean_o, mean_t = outputs.mean(dim=0), targets.mean(dim=0)
    centred_o, centred_t = outputs - mean_o, targets - mean_t
    covariance = (centred_o * centred_t).mean(dim=0)
    variances = centred_o.square().mean(dim=0) + centred_t.square().mean(dim=0)
    return 2 * covariance / (variances + (mean_o - mean_t).square() + CCC_EPS)

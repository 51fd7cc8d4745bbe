"""Batch norm over the items of a step on all ranks (ranks.sync_batch_norm)."""

import torch
from torch import Tensor, nn

from mesm_train.distributed import all_reduce_sums


class _Sum(torch.autograd.Function):
    """The sum over ranks; its gradient is summed over ranks too."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, value: Tensor) -> Tensor:
        return all_reduce_sums(value)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        return all_reduce_sums(gradient)


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, with its gradient. Every rank must call it, also one that holds no items."""
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the rows (n, C) or pictures (B, C, H, W) of all ranks: what one rank would do with all of them.

    n may differ between ranks and be 0. torch's own wants graphics cards and at least one row a rank.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The same shape and dtype."""
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        mean, variance = self.running_mean, self.running_var
        assert mean is not None
        assert variance is not None
        x = input.to(mean.dtype)
        if self.training:
            count = sum_over_ranks(x.new_tensor(float(input.numel() // self.num_features)))
            if count > 1:  # else there is no variance to take, on any rank
                batch_mean = sum_over_ranks(x.sum(axes)) / count
                batch_variance = sum_over_ranks((x - batch_mean.view(shape)).square().sum(axes)) / count
                with torch.no_grad():
                    momentum = self.momentum or 0.0
                    mean.lerp_(batch_mean, momentum)
                    variance.lerp_(batch_variance * count / (count - 1), momentum)
                mean, variance = batch_mean, batch_variance
        x = (x - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
        return (x * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)


def synchronise(model: nn.Module) -> None:
    """Make every batch norm of a model one over all ranks, with the same parameters and statistics.

    One that takes the sums of all ranks from a function `reduce` of its own is given that; others are replaced.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "reduce"):
                child.reduce = all_reduce_sums  # type: ignore[assignment]
            elif isinstance(child, nn.BatchNorm2d) and not isinstance(child, SyncBatchNorm):
                other = SyncBatchNorm(child.num_features, eps=child.eps, momentum=child.momentum)
                other.weight, other.bias = child.weight, child.bias
                other.running_mean, other.running_var = child.running_mean, child.running_var
                other.num_batches_tracked = child.num_batches_tracked
                setattr(parent, name, other)

"""Batch norm and ReLU over rows: of active sites, or of all sites of pictures."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mesm_train.data import device as accelerator
from mesm_train.models.kernels import Kernels
from mesm_train.models.kernels.functions import NormRelu


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Mean and 1 / standard deviation of each channel, (C,).

    `inv_count` is 1 / n for statistics of n rows (of all ranks), 0 if there are too few, and None for running ones.
    """

    mean: Tensor
    rstd: Tensor
    inv_count: Tensor | None
    reduce: Callable[[Tensor], Tensor] | None


def synchronise(model: nn.Module, reduce: Callable[[Tensor], Tensor]) -> None:
    """Have every batch norm of a model take the rows of all ranks: `reduce` is as in BatchNorm."""
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.reduce = reduce


class BatchNorm(nn.BatchNorm2d):
    """Batch norm and ReLU of rows (n, C), n >= 0: each row is one site of one picture, active ones only.

    With fewer than two rows there is no variance to take: then the running statistics are used and left as they are, so
    that an empty modality passes. Sums are taken in the parameters' precision and added in float64, also for bfloat16
    rows.

    `reduce` is for training on several ranks. In training mode it is given the sums of this rank's rows (float64, of a
    shape that is the same on all ranks) and returns those over all ranks: once forward, with (2 C + 1) values, and once
    backward with (2, C), also where this rank has no row. The gradients of weight and bias stay this rank's own.
    """

    reduce: Callable[[Tensor], Tensor] | None = None

    def in_one_pass(self, count: int, kernels: Kernels) -> bool:
        """Whether so many rows are computed by card_norm.py, which takes an `offset`."""
        single = self.weight.dtype == torch.float32
        return kernels.name == "triton" and self.reduce is None and single and count > 1

    def forward(  # type: ignore[override]
        self, rows: Tensor, kernels: Kernels, pool: Tensor | None = None, offset: Tensor | None = None, padding: int = 0
    ) -> Tensor:
        """(n, C) to (n, C), or with `pool` int32 (m, 4) to the maximum over the rows it names, (m, C).

        `pool` names each row once; -1 is no row. `offset` (C,) is a constant that the rows lack, the bias of a
        convolution. The last `padding` rows are of no picture: what comes of them, a quarter as many with `pool`, is 0.
        Both only where `in_one_pass`.
        """
        assert self.weight is not None and self.bias is not None  # noqa: PT018
        if self.in_one_pass(len(rows) - padding, kernels):
            from mesm_train.models.kernels.card_norm import CardNormRelu

            y: Tensor = CardNormRelu.apply(  # type: ignore[no-untyped-call]
                rows, self.weight, self.bias, offset, pool, self.running_mean, self.running_var, self.momentum or 0.0,
                self.eps, self.training, padding,
            )  # fmt: skip
            return y
        if accelerator.is_accelerator(rows.device) and self.reduce is None:
            return self._with_few_launches(rows, pool)
        x = rows.to(self.weight.dtype).contiguous()
        stats = self._statistics(x.detach(), kernels)
        rows_out: Tensor = NormRelu.apply(x, self.weight, self.bias, stats, pool, kernels)  # type: ignore[no-untyped-call]
        return rows_out.to(rows.dtype)

    def _with_few_launches(self, rows: Tensor, pool: Tensor | None) -> Tensor:
        """The same by torch's own operators, in the rows' precision: the card's library adds up in float32."""
        assert self.running_mean is not None and self.running_var is not None  # noqa: PT018
        if len(rows) < 2:
            scale = self.weight * (self.running_var + self.eps).rsqrt()
            y = torch.addcmul(self.bias - self.running_mean * scale, rows.to(scale.dtype), scale).relu().to(rows.dtype)
        else:
            x = rows.view(1, len(rows), 1, rows.shape[1]).permute(0, 3, 1, 2)  # channels_last
            x = functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum or 0.0,
                self.eps,
            )  # fmt: skip
            y = x.relu_().permute(0, 2, 3, 1).reshape(rows.shape)
        if pool is None:
            return y
        padded = functional.pad(y, (0, 0, 0, 1))  # features are >= 0, so that a row of zeros stands for no row
        children = padded.index_select(0, pool.flatten().long().remainder(len(padded)))
        return children.view(len(pool), 4, rows.shape[1]).max(1).values

    @torch.no_grad()
    def _statistics(self, x: Tensor, kernels: Kernels) -> Statistics:
        assert self.running_mean is not None and self.running_var is not None  # noqa: PT018
        mean, variance, inv_count = self.running_mean.double(), self.running_var.double(), None
        if self.training and (len(x) > 1 or self.reduce is not None):
            n = torch.full((1,), float(len(x)), dtype=torch.float64, device=x.device)
            sums = torch.cat([kernels.moments(x).flatten(), n])
            if self.reduce is not None:
                sums = self.reduce(sums)
            total, several = sums[-1].clamp(min=1), sums[-1] > 1  # decided on the device: no waiting for it
            batch_mean = sums[: self.num_features] / total
            batch_variance = (sums[self.num_features : -1] / total - batch_mean.square()).clamp(min=0)
            unbiased = batch_variance * total / (total - 1).clamp(min=1)
            rate = several.to(mean.dtype) * (self.momentum or 0.0)
            self.running_mean.copy_(torch.lerp(mean, batch_mean, rate))
            self.running_var.copy_(torch.lerp(variance, unbiased, rate))
            mean, variance = torch.where(several, batch_mean, mean), torch.where(several, batch_variance, variance)
            inv_count = torch.where(several, 1 / total, 0.0)
        rstd = (variance + self.eps).rsqrt()
        dtype = x.dtype
        return Statistics(mean=mean.to(dtype), rstd=rstd.to(dtype), inv_count=inv_count, reduce=self.reduce)

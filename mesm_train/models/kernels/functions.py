"""The kernels with their gradients."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mesm_train.data import device as accelerator
from mesm_train.models.kernels import Kernels, Table

# Operations of the dense convolution up to which a card computes that instead of the kernels' sparse one: those of all
# layers at 8 utterances and published sizes. Launches bound such a step, and the dense way has fewer of them than a
# gather (tests/models/test_launches.py); and so few rows make too few tiles for all processors of a card.
DENSE_OPERATIONS = 30e9


class SubmanifoldConv(torch.autograd.Function):
    """Rows (n, Cin), a weight (9, Cin, Cout) and maybe a bias (Cout,) to rows (n, Cout)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, table: Table, kernels: Kernels) -> Tensor:
        """See Kernels.conv."""
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.table, ctx.kernels = table, kernels
        return kernels.conv(x, weight, table, bias=bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Of x, the weight and the bias."""
        x, weight = ctx.saved_tensors
        dy = dy.contiguous()
        dx = ctx.kernels.conv(dy, weight, ctx.table, mirror=True) if ctx.needs_input_grad[0] else None
        dw = ctx.kernels.conv_weight(x, dy, ctx.table) if ctx.needs_input_grad[1] else None
        return dx, dw, dy.sum(0) if ctx.needs_input_grad[2] else None, None, None


def conv(x: Tensor, weight: Tensor, table: Table, kernels: Kernels, bias: Tensor | None = None) -> Tensor:
    """The same in the dtype of the weight; under autocast on a graphics card in autocast's.

    On a card with few pictures the whole grid is computed (`masked_conv`).
    """
    dtype = dtype_of_products(x, weight)
    operations = 2 * math.prod(table.shape) * weight.numel()
    with torch.autocast(x.device.type, enabled=False):
        x, weight = x.to(dtype), weight.to(dtype)
        if accelerator.is_accelerator(x.device) and operations <= DENSE_OPERATIONS:
            return masked_conv(x, weight, bias, table)
        y: Tensor = SubmanifoldConv.apply(x, weight, bias, table, kernels)  # type: ignore[no-untyped-call]
    return y


def dtype_of_products(x: Tensor, weight: Tensor) -> torch.dtype:
    """Of a convolution of x with the weight: autocast's on a graphics card, else the weight's."""
    device = x.device.type
    lower = accelerator.is_accelerator(x.device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if lower else weight.dtype


def masked_conv(x: Tensor, weight: Tensor, bias: Tensor | None, table: Table) -> Tensor:
    """`SubmanifoldConv` by torch's dense convolution, over zeros at the sites that are not active."""
    batch, height, width = table.shape
    rows = x.new_zeros(batch * height * width, x.shape[1]).index_copy_(0, table.sites, x)
    grid = rows.view(batch, height, width, x.shape[1]).permute(0, 3, 1, 2)
    taps = weight.view(3, 3, *weight.shape[1:]).permute(3, 2, 0, 1)
    y = functional.conv2d(grid, taps.contiguous(memory_format=torch.channels_last), bias, padding=1)
    return y.permute(0, 2, 3, 1).reshape(-1, y.shape[1]).index_select(0, table.sites)


class SelectRows(torch.autograd.Function):
    """Some rows (m, C) of rows (n, C), none of them twice.

    index_select's own gradient adds atomically, as rows might be there twice: on an H200 8.8 of the 42 ms of a step.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        """`places`: int64 (m,)."""
        ctx.save_for_backward(places)
        ctx.shape = rows.shape
        return rows.index_select(0, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        """Of the rows."""
        (places,) = ctx.saved_tensors
        return dy.new_zeros(ctx.shape).index_copy_(0, places, dy), None


def select_rows(rows: Tensor, places: Tensor) -> Tensor:
    """See SelectRows."""
    selected: Tensor = SelectRows.apply(rows, places)  # type: ignore[no-untyped-call]
    return selected


class MergeRows(torch.autograd.Function):
    """Rows (m, C) and others (n, C), each to its place among m + n rows, which the places name once each.

    Two index_copy instead would copy the result once more, and the gradient twice.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, others: Tensor, other_places: Tensor) -> Tensor:
        """The places are int64 (m,) and (n,)."""
        ctx.save_for_backward(places, other_places)
        merged = rows.new_empty(len(places) + len(other_places), rows.shape[1])
        return merged.index_copy_(0, places, rows).index_copy_(0, other_places, others)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, Tensor, None]:
        """Of the rows and the others."""
        places, other_places = ctx.saved_tensors
        return dy.index_select(0, places), None, dy.index_select(0, other_places), None


def merge_rows(rows: Tensor, places: Tensor, others: Tensor, other_places: Tensor) -> Tensor:
    """See MergeRows."""
    merged: Tensor = MergeRows.apply(rows, places, others, other_places)  # type: ignore[no-untyped-call]
    return merged


class WindowMeans(torch.autograd.Function):
    """A grid (B, C, H, W) in channels_last, H and W even, to itself and the means of its 2x2 windows.

    What follows uses the grid that is returned. So both gradients are added in one pass: avg_pool2d's own and their sum
    take three times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """The means are (B, C, H/2, W/2)."""
        return x.view_as(x), functional.avg_pool2d(x, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dx: Tensor, dmeans: Tensor) -> Tensor:
        """Of the grid, in channels_last."""
        batch, channels, height, width = dx.shape
        windows = dx.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels)
        total = torch.add(windows, dmeans.permute(0, 2, 3, 1)[:, :, None, :, None], alpha=0.25)
        return total.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def window_means(x: Tensor) -> tuple[Tensor, Tensor]:
    """See WindowMeans."""
    grid, means = WindowMeans.apply(x)  # type: ignore[no-untyped-call]
    return grid, means


class NormRelu(torch.autograd.Function):
    """Batch norm and ReLU of rows (n, C), and the maximum over the rows of `pool` if it is given.

    `stats` (norm.Statistics) is what to normalise by; where it came of these rows, the gradient goes through it too.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stats: Any, pool: Tensor | None, kernels: Kernels
    ) -> Tensor:
        """See Kernels.normalise and normalise_pool."""
        scale = weight * stats.rstd
        shift = bias - stats.mean * scale
        if pool is None:
            y = kept = kernels.normalise(x, scale, shift)
        else:
            y, kept = kernels.normalise_pool(x, scale, shift, pool)
        ctx.save_for_backward(x, kept, scale, pool)
        ctx.stats, ctx.kernels = stats, kernels
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Of x, the weight and the bias; the parameters' are of these rows only, as data parallelism adds them up."""
        x, kept, scale, pool = ctx.saved_tensors
        stats, dy = ctx.stats, dy.contiguous()

        def finish(sums: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
            if not ctx.needs_input_grad[0]:
                return None
            if stats.inv_count is None:
                return scale, torch.zeros_like(scale), torch.zeros_like(scale)
            # x enters its own mean and variance; `inv_count` is 1 / n, or 0 where those are not of the batch.
            over = (sums if stats.reduce is None else stats.reduce(sums)) * stats.inv_count
            slope = -scale * stats.rstd.double().square() * over[1]
            return scale, slope.to(scale.dtype), (-scale * over[0]).to(scale.dtype)

        sums, dx = ctx.kernels.norm_backward(dy, kept, x, pool, stats.mean, finish)
        return dx, (sums[1] * stats.rstd).to(scale.dtype), sums[0].to(scale.dtype), None, None, None

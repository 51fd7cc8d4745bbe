"""Batch norm, ReLU and pooling on a CUDA card by triton_norm.py, with gradients."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mesm_train.models.kernels import triton_norm
from mesm_train.models.kernels.launch import start

ELEMENTS = 4096  # of the rows that a program has in registers at a time
POOLED_ELEMENTS = 2048  # the same of windows, each of which has four rows
MOST_PARTS = 1024  # that the rows are divided into for sums: some programs for each of a card's processors
LEAST_SHARE = 256  # rows of a part
BLOCK_P = 64  # parts that are added up at a time
FEW = 16  # channels of a program that adds up parts


class CardNormRelu(torch.autograd.Function):
    """Batch norm and ReLU of rows (n, C), n > 1, float32, bfloat16 or float16; see `norm.BatchNorm`.

    `pool`: int32 (m, 4) for the maximum over windows, (m, C). `offset`: float32 (C,), a constant that x lacks, such as
    the bias of a convolution: it changes running statistics only, and nothing has to be added to x. Running statistics
    are updated in training. The last `padding` rows of x are of no picture: they do not count, what comes of them, a
    quarter as many rows with `pool`, is 0, and so is their gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, offset: Tensor | None, pool: Tensor | None,
        running_mean: Tensor, running_var: Tensor, momentum: float, eps: float, training: bool, padding: int = 0,
    ) -> Tensor:  # fmt: skip
        """The normalised rows."""
        x = x.contiguous()
        rows, channels = len(x) - padding, x.shape[1]
        share, parts = divide(rows)
        stats = x.new_empty(4, channels, dtype=torch.float32)
        sums = x.new_empty(parts, 2, channels, dtype=torch.float32)
        count = rows if pool is None else len(pool)
        y = empty_before_zeros(x, count, padding if pool is None else padding // 4)
        plain, shape = shape_of(channels, pooled=False), shape_of(channels, pooled=pool is not None)
        few = (training, offset is not None, shape.unit, BLOCK_P, FEW)
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            if training:
                start(
                    triton_norm.moments_kernel, (parts, plain.across), (x, sums), (rows, share, shape.units), plain.of
                )
            start(
                triton_norm.statistics_kernel, (-(-channels // FEW),),
                (sums, weight, bias, weight if offset is None else offset, running_mean, running_var, stats),
                (rows, share, parts, momentum, eps, shape.units), few,
            )  # fmt: skip
            start(
                triton_norm.normalise_kernel, shape.grid(count), (x, stats, x if pool is None else pool, y),
                (count, shape.units), (pool is not None, *shape.of),
            )  # fmt: skip
        ctx.save_for_backward(x, stats, pool)
        ctx.training, ctx.has_offset, ctx.padding, ctx.count = training, offset is not None, padding, count
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Of x, the weight, the bias and the offset."""
        x, stats, pool = ctx.saved_tensors
        dy = dy.contiguous()
        count, channels = ctx.count, x.shape[1]
        rows = len(x) - ctx.padding
        share, parts = divide(count)
        shape = shape_of(channels, pooled=pool is not None)
        pooling = (pool is not None, *shape.of)
        windows = x if pool is None else pool
        sums = x.new_empty(parts, 2, channels, dtype=torch.float32)
        gradients = x.new_empty(5, channels, dtype=torch.float32)
        dx = empty_before_zeros(x, rows, ctx.padding)
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            start(
                triton_norm.sums_kernel, (parts, shape.across), (dy, x, stats, windows, sums),
                (count, share, shape.units), pooling,
            )  # fmt: skip
            start(
                triton_norm.coefficients_kernel, (-(-channels // FEW),), (sums, stats, gradients),
                (rows, parts, shape.units), (ctx.training, shape.unit, BLOCK_P, FEW),
            )  # fmt: skip
            start(
                triton_norm.gradient_kernel, shape.grid(count), (dy, x, stats, gradients, windows, dx),
                (count, shape.units), pooling,
            )  # fmt: skip
        offset = gradients[2] if ctx.has_offset else None
        return dx, gradients[0], gradients[1], offset, *[None] * 7


def empty_before_zeros(like: Tensor, rows: int, zeros: int) -> Tensor:
    """(rows + zeros, C), of which the last are 0 and the first are not set."""
    allocated = like.new_empty(rows + zeros, like.shape[1])
    if zeros:
        allocated[rows:].zero_()
    return allocated


def divide(rows: int) -> tuple[int, int]:
    """How many rows a part has, and how many parts there are; every part has a row."""
    share = max(LEAST_SHARE, -(-rows // MOST_PARTS))
    return share, max(1, -(-rows // share))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the functions divide rows of channels, or windows of rows, among programs."""

    unit: int  # UNIT of triton_norm.py
    units: int
    of: tuple[int, int, int]  # the constants UNIT, BLOCK_R, BLOCK_C
    across: int  # programs over the channels

    def grid(self, rows: int) -> tuple[int, int]:
        """Programs over rows and channels."""
        return -(-rows // self.of[1]), self.across


@cache
def shape_of(channels: int, *, pooled: bool) -> Shape:
    """For rows, or for windows of rows."""
    unit = 1 if channels % 16 else 16
    columns = max(16, min(64, 1 << (channels - 1).bit_length()))
    elements = POOLED_ELEMENTS if pooled else ELEMENTS
    return Shape(
        unit=unit, units=channels // unit, of=(unit, elements // columns, columns), across=-(-channels // columns)
    )

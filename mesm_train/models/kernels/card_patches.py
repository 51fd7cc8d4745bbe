"""Convolutions of pictures of few channels on a CUDA card by triton_patches.py, with the gradient of the weight."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mesm_train.models.kernels import triton_patches
from mesm_train.models.kernels.launch import start

SPAN = 16  # numbers in a line of a patch at most: the least that tensor cores sum up
TILE = 64  # rows at a time
MOST_PARTS = 512  # that the rows are divided into for the weight's gradient; each for every line of a patch


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether `PatchConv` takes pictures (B, C, H, W) and a weight (N, C, side, side), side odd."""
    low = x.dtype in (torch.bfloat16, torch.float16)
    return low and weight.shape[1] * weight.shape[3] <= SPAN and not x.requires_grad and len(x) > 0


class PatchConv(torch.autograd.Function):
    """The convolution of pictures (B, C, H, W), of zeros beyond their edges, as rows (B * H * W, N); without bias."""

    @staticmethod
    def forward(ctx: Any, pictures: Tensor, weight: Tensor) -> Tensor:
        """`weight` (N, C, side, side); both bfloat16 or float16."""
        outputs, channels, side, _ = weight.shape
        frame = side // 2
        x = functional.pad(pictures.permute(0, 2, 3, 1), (0, 0, frame, frame, frame, frame)).contiguous()
        batch, _, height, width = pictures.shape
        rows = batch * height * width
        lines = weight.permute(2, 3, 1, 0).reshape(side, side * channels, outputs)
        lines = functional.pad(lines, (0, 0, 0, SPAN - side * channels)).contiguous()
        y = x.new_empty(rows, outputs)
        block_n = block_of(outputs)
        sizes = (height, width, channels, side, SPAN, outputs)
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            start(
                triton_patches.patch_conv_kernel, (-(-rows // TILE), -(-outputs // block_n)), (x, lines, y), (rows,),
                (*sizes, TILE, block_n),
            )  # fmt: skip
        ctx.save_for_backward(x)
        ctx.sizes = sizes
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[None, Tensor]:
        """Of the weight."""
        (x,) = ctx.saved_tensors
        _, _, channels, side, _, outputs = ctx.sizes
        dy = dy.contiguous()
        share = -(-len(dy) // MOST_PARTS)
        share = -(-share // TILE) * TILE
        parts = -(-len(dy) // share)
        block_n = block_of(outputs)
        sums = dy.new_empty(parts, side, outputs, SPAN, dtype=torch.float32)
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            start(
                triton_patches.patch_weight_kernel, (parts, side, -(-outputs // block_n)), (x, dy, sums),
                (len(dy), share), (*ctx.sizes, block_n, TILE), stages=3,
            )  # fmt: skip
        lines = sums.sum(0)[:, :, : side * channels].view(side, outputs, side, channels)
        return None, lines.permute(1, 3, 0, 2).to(dy.dtype)


def block_of(outputs: int) -> int:
    """Output channels of a program."""
    return max(16, min(64, 1 << (outputs - 1).bit_length()))

"""Attention over sites, their choice and its tables on a CUDA card, by triton_choice.py."""

import math
import struct
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mesm_train.models.kernels import Sites, Table, triton_choice
from mesm_train.models.kernels.choice import Choice
from mesm_train.models.kernels.launch import start

MOST_SITES = 4096  # of a picture: all of them are in the registers of one program
ROWS = 64  # of a program that computes scores
BLOCK_C = 32  # of its channels at a time, of the attention and of the sites
# Three products of TF32 for one of float32, on tensor cores: as exact, and rows in bfloat16 are exact in TF32.
PRECISION = "tf32x3"


class SiteScores(torch.autograd.Function):
    """The scores (B, H, W) of sites, selection.SiteAttention's; what is at inactive ones is not defined."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, guide: Tensor, score: Tensor, offset: Tensor, sites: Sites
    ) -> Tensor:
        """offset + sum over c of score[0, c] * tanh(x . weight[c] + bias[c] + guide[picture, c]).

        Args:
            ctx: PyTorch's.
            x: (n, R), the rows of the sites, n > 0; float32, bfloat16 or float16. All others are float32.
            weight: (C, R).
            bias: (C,).
            guide: (B, C), of the pictures.
            score: (1, C).
            offset: (1,).
            sites: where the rows are.
        """
        x, guide = x.contiguous(), guide.contiguous()
        scores = guide.new_empty(sites.active.shape)
        channels, inputs = weight.shape
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            start(
                triton_choice.scores_kernel, (-(-len(x) // ROWS),),
                (x, weight, bias, guide, score, offset, sites.places, scores),
                (len(x), math.prod(sites.active.shape[1:])),
                (inputs, channels, PRECISION, ROWS, BLOCK_C, BLOCK_C),
            )  # fmt: skip
        ctx.save_for_backward(x, weight, bias, guide, score)
        ctx.sites = sites
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Of all but the sites; nothing is added atomically."""
        x, weight, bias, guide, score = ctx.saved_tensors
        sites: Sites = ctx.sites
        batch, channels = guide.shape
        per_picture, programs = math.prod(sites.active.shape[1:]), -(-len(x) // ROWS)
        dsums, parts = guide.new_empty(len(x), channels), guide.new_empty(programs, channels + 1)
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            start(
                triton_choice.scores_gradient_kernel, (programs,),
                (x, weight, bias, guide, score, sites.places, dy.contiguous(), dsums, parts), (len(x), per_picture),
                (x.shape[1], channels, PRECISION, ROWS, BLOCK_C, BLOCK_C),
            )  # fmt: skip
        grid = dsums
        if not sites.all_active:
            grid = dsums.new_zeros(batch * per_picture, channels).index_copy_(0, sites.places, dsums)
        dguide, total = grid.view(batch, per_picture, channels).sum(1), parts.sum(0)
        dx = (dsums @ weight).to(x.dtype) if ctx.needs_input_grad[0] else None
        dweight = dsums.t() @ x.to(weight.dtype)
        return dx, dweight, dguide.sum(0), dguide, total[:channels].unsqueeze(0), total[channels:], None


class ChooseSites(torch.autograd.Function):
    """Weights float32 (B, H, W), bool (B, H, W) which sites are kept, and int64 (3, B), see `Choice`."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, active: Tensor, p: float, tile: int) -> tuple[Tensor, Tensor, Tensor]:
        """See choice.choose."""
        pictures, height, width = active.shape
        scores, active = scores.contiguous(), active.contiguous()
        weights = torch.empty(active.shape, dtype=torch.float32, device=scores.device)
        kept = torch.empty_like(active)
        scratch = scores if tile == 1 else torch.empty_like(scores)
        counts = torch.empty(3, pictures, dtype=torch.int32, device=scores.device)
        (bits,) = struct.unpack("<q", struct.pack("<d", p if p < 1 else math.inf))
        tiles = math.prod(scores.shape[1:])
        with torch.cuda.device_of(scores):  # type: ignore[no-untyped-call]
            start(
                triton_choice.choose_kernel, (pictures,),
                (scores, active, weights, kept.view(torch.int8), scratch, counts), (bits, pictures, height, width),
                (tile, block_of(tiles), block_of(height * width)),
            )  # fmt: skip
        ends = counts.cumsum(1)
        ctx.mark_non_differentiable(kept, ends)
        ctx.save_for_backward(weights)
        ctx.tile, ctx.shape = tile, scores.shape
        return weights, kept, ends

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *others: Tensor) -> tuple[Tensor, None, None, None]:
        """Of the scores: of a softmax; 0 at inactive sites."""
        (weights,) = ctx.saved_tensors
        pictures, height, width = weights.shape
        dscores = torch.empty(ctx.shape, dtype=weights.dtype, device=weights.device)
        with torch.cuda.device_of(weights):  # type: ignore[no-untyped-call]
            start(
                triton_choice.choose_gradient_kernel, (pictures,), (dy.contiguous(), weights, dscores), (height, width),
                (ctx.tile, block_of(math.prod(ctx.shape[1:]))),
            )  # fmt: skip
        return dscores, None, None, None


def choose(scores: Tensor, active: Tensor, p: float, tile: int) -> Choice:
    """See choice.choose. float32 scores of some pictures with at most MOST_SITES sites."""
    weights, kept, ends = ChooseSites.apply(scores, active, p, tile)  # type: ignore[no-untyped-call]
    return Choice(weights=weights, kept=kept, counts=ends[:, -1], ends=ends)


def tables(kept: Tensor, count: int, pooled: int, ends: Tensor, ranks: Tensor | None) -> Table:
    """See Kernels.tables; of at least one site. plans["masks"] is int16 (n,), which neighbours a row has, by bits."""
    kept, (pictures, height, width) = kept.contiguous(), kept.shape
    rank = torch.empty(kept.shape, dtype=torch.int32, device=kept.device)
    sites = torch.empty(count, dtype=torch.int64, device=kept.device)
    sources = sites if ranks is None else torch.empty_like(sites)
    near, pool, masks = rank.new_empty(count, 9), rank.new_empty(pooled, 4), rank.new_empty(count, dtype=torch.int16)
    window_rank = rank.new_empty(pictures, height // 2, width // 2)
    windows = torch.empty(window_rank.shape, dtype=torch.bool, device=kept.device)
    places, others = sites.new_empty(pooled), sites.new_empty(windows.numel() - pooled)
    with torch.cuda.device_of(kept):  # type: ignore[no-untyped-call]
        start(
            triton_choice.tables_kernel, (pictures,),
            (kept.view(torch.int8), ends, rank if ranks is None else ranks, rank, sites, sources, near, masks, pool,
             windows.view(torch.int8), window_rank, places, others),
            (pictures, height, width), (ranks is not None, block_of(height * width)),
        )  # fmt: skip
    return Table(
        shape=(pictures, height, width), sites=sites, near=near, pool=pool, sources=sources, plans={"masks": masks},
        pooled=Sites(active=windows, places=places, other_places=others, rank=window_rank),
    )  # fmt: skip


def block_of(sites: int) -> int:
    """The power of two that covers the sites of a picture, at least 16."""
    return max(16, 1 << (sites - 1).bit_length())

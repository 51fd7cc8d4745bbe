"""The kernels on a CUDA card: convolutions (triton_conv.py) and the choice of sites (card_choice.py) in Triton.

Batch norms are in card_norm.py, which norm.py calls.

Rows are sorted by which of their nine neighbours are active, and a tile of TILE rows skips the taps that none of them
has. Tile sizes are fixed, chosen once on an H200 and not where it runs, and nothing is added atomically: the same input
gives the same bits in every run and on every rank, which an exact resume needs.

Why not spconv-triton 1.0.0 (read in November 2026), whose algorithm is the same: it chooses tiles by timing some 40
configurations for each shape, so that sums may differ from run to run, and every rank tunes by itself; its gradient of
a submanifold convolution's input skips no tap; for the weight's gradient the host waits for the number of pairs; under
autocast its layers take float16, also where bfloat16 is set, and float32 in evaluation; no row at all is an error; and
it refuses CPU tensors, so that Triton's interpreter cannot check it.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from mesm_train.models.kernels import Table, card_choice, triton_conv
from mesm_train.models.kernels.choice import Choice
from mesm_train.models.kernels.launch import start
from mesm_train.models.kernels.pure import PureKernels

TILE = 128  # rows
WARPS = 4  # of a tile of 128 x 128; 8 took up to 1.3 times as long on an H200, as fewer tiles fit a processor
STAGES = 3  # of the software pipeline: loads of indices, loads of features and weights, products
PROGRAMS = 528  # of the weight's gradient, if there are enough rows: two for each that an H200 runs at once
MOST_PARTS = 29  # that its rows are divided into; with 9 places so many programs run at once


class TritonKernels(PureKernels):
    """See Kernels. What Triton does not compute here, float64 and no row at all, is gathered."""

    name = "triton"

    def __init__(self) -> None:
        super().__init__("gather")

    def choose(self, scores: Tensor, active: Tensor, p: float, tile: int = 1) -> Choice:
        """See Kernels."""
        if scores.dtype != torch.float32 or not small(active):
            return super().choose(scores, active, p, tile)
        return card_choice.choose(scores, active, p, tile)

    def tables(
        self, kept: Tensor, count: int, pooled: int, *, ends: Tensor | None = None, rank: Tensor | None = None
    ) -> Table:
        """See Kernels."""
        if count and ends is not None:
            return card_choice.tables(kept, count, pooled, ends, rank)
        table = super().tables(kept, count, pooled)
        bits = torch.arange(9, dtype=torch.int32, device=kept.device)
        table.plans["masks"] = ((table.near >= 0).int() << bits).sum(1).to(torch.int16)
        return table

    def conv(
        self, x: Tensor, weight: Tensor, table: Table, *, bias: Tensor | None = None, mirror: bool = False
    ) -> Tensor:
        """See Kernels."""
        if x.dtype == torch.float64 or not len(x):
            return super().conv(x, weight, table, bias=bias, mirror=mirror)
        with current_device(x):
            y = multiply(x, weight, sorted_rows(table), mirror=mirror)
        return y if bias is None else y.add_(bias)

    def conv_weight(self, x: Tensor, dy: Tensor, table: Table) -> Tensor:
        """See Kernels."""
        if x.dtype == torch.float64 or not len(x):
            return super().conv_weight(x, dy, table)
        with current_device(x):
            return multiply_weight(x, dy, pairs_of(table))


def try_out(device: torch.device) -> None:
    """Compile two small functions and start them twice, as `start` has a way of its own for the second time.

    Raises what Triton raises where it does not work, of many classes.
    """
    near = torch.zeros(1, 9, dtype=torch.int32, device=device)
    with current_device(near):
        for _ in range(2):
            sort_rows(near, torch.ones(1, dtype=torch.int16, device=device))


def small(mask: Tensor) -> bool:
    """Whether there are pictures in the mask (B, H, W), and a program can have all sites of one at once."""
    return 0 < mask.numel() <= len(mask) * card_choice.MOST_SITES


def current_device(x: Tensor) -> AbstractContextManager[None]:
    """Triton starts kernels on torch's current device: make that the one of x."""
    return torch.cuda.device_of(x)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """n rows in the order of their neighbour masks, in `tiles` tiles."""

    order: Tensor  # int64 (n,): the row in each slot
    sources: Tensor  # int32 (9, tiles * TILE): the neighbours of each slot's row; -1 where there is none
    masks: Tensor  # int32 (tiles,): the taps that any row of the tile has
    counts: Tensor  # int32 (9, tiles): how many rows of the tile have a tap


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Rows and their neighbours by tap, one after another, for the gradient of a weight."""

    sources: Tensor  # int32 (9, tiles * TILE): the neighbours; the last ones of a tap are not set
    rows: Tensor  # int32 (9, tiles * TILE): the rows that have them
    ends: Tensor  # int32 (9, tiles): how many pairs there are of a tap in the tiles up to this one


def sorted_rows(table: Table) -> Sorted:
    """Of the rows of a table, made once."""
    if "sorted" not in table.plans:
        table.plans["sorted"] = sort_rows(table.near, table.plans["masks"])
    plan: Sorted = table.plans["sorted"]
    return plan


def sort_rows(near: Tensor, row_masks: Tensor) -> Sorted:
    """Of the neighbours int32 (n, 9) of n > 0 rows, and which they have, int16 (n,). Nothing waits for the card."""
    rows, tiles = len(near), -(-len(near) // TILE)
    order = torch.sort(row_masks, stable=True).indices
    sources, masks, counts = near.new_empty(9, tiles * TILE), near.new_empty(tiles), near.new_empty(9, tiles)
    start(triton_conv.sort_neighbours_kernel, (tiles,), (near, order, sources, masks, counts), (rows, tiles), (TILE,))
    return Sorted(order=order, sources=sources, masks=masks, counts=counts)


def pairs_of(table: Table) -> Pairs:
    """Of the rows of a table, made once, in the first backward pass."""
    if "pairs" not in table.plans:
        table.plans["pairs"] = pair_rows(sorted_rows(table))
    pairs: Pairs = table.plans["pairs"]
    return pairs


def pair_rows(plan: Sorted) -> Pairs:
    """Of sorted rows."""
    ends = plan.counts.cumsum(1, dtype=torch.int32)
    pairs = Pairs(sources=torch.empty_like(plan.sources), rows=torch.empty_like(plan.sources), ends=ends)
    tiles = len(plan.masks)
    start(
        triton_conv.pairs_kernel, (tiles,), (plan.sources, plan.order, ends, pairs.sources, pairs.rows),
        (len(plan.order), tiles), (TILE,),
    )  # fmt: skip
    return pairs


def multiply(x: Tensor, weight: Tensor, plan: Sorted, *, mirror: bool) -> Tensor:
    """(n, Cin) with (9, Cin, Cout) to (n, Cout), n > 0; `mirror`: (n, Cout) to (n, Cin). float32, bfloat16, float16."""
    reduced, columns = weight.shape[1:] if not mirror else (weight.shape[2], weight.shape[1])
    y = x.new_empty(len(x), columns)
    r_last = mirror
    if x.dtype == torch.float32 and not mirror:  # Hopper multiplies TF32 only where both have the summed index last
        weight, r_last = weight.transpose(1, 2).contiguous(), True
    block_n = block(columns, 128)
    tiles = len(plan.masks)
    start(
        triton_conv.conv_kernel, (tiles * -(-columns // block_n),),
        (x, weight, plan.sources, plan.order, plan.masks, y), (len(x), tiles),
        (reduced, columns, mirror, r_last, precision(), TILE, block_n, block(reduced, depth(x))),
        warps=WARPS, stages=STAGES,
    )  # fmt: skip
    return y


def multiply_weight(x: Tensor, dy: Tensor, pairs: Pairs) -> Tensor:
    """The gradient (9, Cin, Cout) of the weight, from (n, Cin) and (n, Cout), n > 0."""
    cin, cout, tiles = x.shape[1], dy.shape[1], pairs.ends.shape[1]
    block_i, block_o = block(cin, 128), block(cout, 128)
    places = 9 * -(-cin // block_i) * -(-cout // block_o)
    count = max(1, min(PROGRAMS // places, MOST_PARTS, tiles // 4))
    parts = x.new_empty(count, 9, cin, cout, dtype=torch.float32)
    start(
        triton_conv.conv_weight_kernel, (places, count),
        (x, dy, pairs.sources, pairs.rows, pairs.ends, parts), (tiles,),
        (cin, cout, precision(), TILE, block_i, block_o, depth(x)), warps=WARPS, stages=STAGES,
    )  # fmt: skip
    return parts.sum(0).to(x.dtype)


def block(channels: int, most: int) -> int:
    """The power of two that covers the channels; at least 16, the smallest side of a product on tensor cores."""
    return max(16, min(most, 1 << (channels - 1).bit_length()))


def depth(x: Tensor) -> int:
    """How many products are summed in a loop step: 128 bytes of a row."""
    return 128 // x.element_size()


def precision() -> str:
    """Of products of float32: as the setting for torch's own on a card."""
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"

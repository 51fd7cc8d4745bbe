"""The kernels in PyTorch, for any device.

A convolution takes one of three ways, which differ in rounding only:

pairs   on a CPU: the pairs of neighbouring rows, in chunks that stay in the cache: one gather, a product a tap, one
        segmented sum. It computes active pairs only.
dense   on a CPU where nearly all sites are active: the library's convolution over the whole grid.
gather  on other devices: a gather and a product a tap, with a row of zeros for neighbours that are not active. The
        number of launches is constant, nothing waits for the device, and nothing is summed in an order of chance.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mesm_train.models.kernels import Finish, Table

Way = Literal["auto", "pairs", "dense", "gather"]
CHUNK = 2048  # rows
SUMMED = 4096  # rows that are summed in their own precision, before sums are added in float64
# From which share of active sites the dense way is faster, by the number of sites of a picture. Measured on one thread
# of an AVX-512 machine at the published sizes; on an AVX2 one it was .85 on the largest grids.
DENSE_FROM = ((288, 0.68), (100, 0.86))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The pairs of the output rows first..last, ordered by tap. They are the same pairs for the mirrored taps."""

    first: int
    last: int
    source: Tensor  # int64 (pairs,): rows of the input
    target: Tensor  # int64 (pairs,): rows of the output
    spans: tuple[tuple[int, int, int], ...]  # tap, begin, end
    order: Tensor  # int64 (pairs,): the pairs by output row
    offsets: Tensor  # int64 (last - first,): where each output row's begin in `order`


class PureKernels:
    """See Kernels. `way` is for tests and measurements."""

    name = "torch"
    invariant = False

    def __init__(self, way: Way = "auto") -> None:
        self.way = way

    def tables(self, kept: Tensor, count: int, pooled: int) -> Table:
        """See Kernels."""
        batch, height, width = kept.shape
        sites = torch.nonzero_static(kept.flatten(), size=count).squeeze(1)
        rank = torch.full_like(kept, -1, dtype=torch.int32).flatten()
        rank[sites] = torch.arange(count, dtype=torch.int32, device=kept.device)
        framed = functional.pad(rank.view(batch, height, width), (1, 1, 1, 1), value=-1)
        line = width + 2
        picture = sites // (height * width)
        # In the framed grid, a picture begins 2 * line + 2 * height later than in the plain one, a line 2 later.
        centre = sites + picture * (2 * line + 2 * height) + (sites // width - picture * height) * 2 + line + 1
        taps = torch.arange(-1, 2, device=kept.device)
        offsets = (taps[:, None] * line + taps).flatten()
        near = framed.flatten()[centre[:, None] + offsets]
        children = (
            rank.view(batch, height // 2, 2, width // 2, 2).transpose(2, 3).reshape(batch * height * width // 4, 4)
        )
        some = torch.nonzero_static((children >= 0).any(1), size=pooled).squeeze(1)
        return Table(shape=(batch, height, width), sites=sites, near=near, pool=children[some])

    def conv(self, x: Tensor, weight: Tensor, table: Table, *, mirror: bool = False) -> Tensor:
        """See Kernels."""
        if mirror:
            weight = weight.flip(0).transpose(1, 2)
        way = self._way(x, table)
        if way == "dense":
            grid = _to_grid(x, table)
            return _from_grid(functional.conv2d(grid, _as_conv2d(weight), padding=1), table)
        y = x.new_empty(len(x), weight.shape[2])
        if way == "gather":
            padded, places = _padded(x, table)
            torch.mm(x, weight[4], out=y)
            for k in (0, 1, 2, 3, 5, 6, 7, 8):
                y.addmm_(padded.index_select(0, places[k]), weight[k])
            return y
        for chunk in _chunks(table):
            gathered = x.index_select(0, chunk.source)
            products = x.new_empty(len(gathered), weight.shape[2])
            for k, begin, end in chunk.spans:
                torch.mm(gathered[begin:end], weight[k], out=products[begin:end])
            y[chunk.first : chunk.last] = functional.embedding_bag(chunk.order, products, chunk.offsets, mode="sum")
        return y

    def conv_weight(self, x: Tensor, dy: Tensor, table: Table) -> Tensor:
        """See Kernels."""
        way = self._way(x, table)
        dw = x.new_zeros(9, x.shape[1], dy.shape[1])
        if way == "dense":
            weight = dw.new_empty(dy.shape[1], x.shape[1], 3, 3)
            _, found, _ = torch.ops.aten.convolution_backward(
                _to_grid(dy, table), _to_grid(x, table), weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1,
                [False, True, False],
            )  # fmt: skip
            return found.permute(2, 3, 1, 0).reshape(dw.shape)  # type: ignore[no-any-return]
        if way == "gather":
            padded, places = _padded(x, table)
            for k in range(9):
                torch.mm(padded.index_select(0, places[k]).t(), dy, out=dw[k])
            return dw
        for chunk in _chunks(table):
            inputs, outputs = x.index_select(0, chunk.source), dy.index_select(0, chunk.target)
            for k, begin, end in chunk.spans:
                dw[k].addmm_(inputs[begin:end].t(), outputs[begin:end])
        return dw

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """See Kernels."""
        return x @ weight

    def moments(self, x: Tensor) -> Tensor:
        """See Kernels."""
        if not len(x):
            return x.new_zeros(2, x.shape[1], dtype=torch.float64)
        # The variance first, around the mean: the sum of squares in float32 would lose it. On a CPU chunk by chunk: in
        # one piece torch sums 400,000 rows to a variance that is off by 1.5e-3, in the same time.
        if x.device.type == "cpu":
            chunks = torch.split(x, SUMMED)
            found = [torch.batch_norm_update_stats(_columns(chunk), None, None, 0.0) for chunk in chunks]
            mean, variance = (torch.stack(parts).double() for parts in zip(*found, strict=True))
            rows = torch.tensor([[float(len(chunk))] for chunk in chunks], dtype=torch.float64)
        else:
            variance, mean = (part.double()[None] for part in torch.var_mean(x, dim=0, correction=0))
            rows = mean.new_full((1, 1), float(len(x)))
        return torch.stack([(mean * rows).sum(0), ((variance + mean * mean) * rows).sum(0)])

    def normalise(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """See Kernels."""
        return torch.addcmul(shift, x, scale).relu_()

    def normalise_pool(self, x: Tensor, scale: Tensor, shift: Tensor, pool: Tensor) -> tuple[Tensor, Tensor]:
        """See Kernels."""
        y = functional.pad(self.normalise(x, scale, shift), (0, 0, 0, 1))
        rows = pool.long().t().remainder(len(y))  # -1: the row of zeros
        best = y.index_select(0, rows[0])
        which = torch.where(best > 0, 0, 255).to(torch.uint8)
        for child in (1, 2, 3):
            other = y.index_select(0, rows[child])
            which.masked_fill_(other > best, child)
            best = torch.maximum(best, other)
        return best, which

    def norm_backward(
        self, dy: Tensor, y: Tensor, x: Tensor, pool: Tensor | None, mean: Tensor, finish: Finish
    ) -> tuple[Tensor, Tensor | None]:
        """See Kernels."""
        g = _unpool(dy, y, x, pool)
        if x.device.type == "cpu" and len(x):
            one = torch.ones_like(mean)  # as the weight and the 1 / standard deviation; torch sums both in one pass
            parts = [
                torch.ops.aten.native_batch_norm_backward(
                    _columns(some), _columns(rows), one, None, None, mean, one, True, 0.0, [False, True, True]
                )
                for some, rows in zip(torch.split(g, SUMMED), torch.split(x, SUMMED), strict=True)
            ]
            sums = torch.stack([torch.stack([plain, centred]) for _, centred, plain in parts]).double().sum(0)
        else:
            sums = torch.stack([g.sum(0), (g * (x - mean)).sum(0)]).double()
        coefficients = finish(sums)
        if coefficients is None:
            return sums, None
        scale, slope, shift = coefficients
        return sums, torch.addcmul(shift - slope * mean, x, slope).addcmul_(g, scale)

    def _way(self, x: Tensor, table: Table) -> Way:
        if self.way != "auto":
            return self.way
        if x.device.type != "cpu":
            return "gather"
        batch, height, width = table.shape
        share = len(x) / max(1, batch * height * width)
        dense = any(height * width >= sites and share > least for sites, least in DENSE_FROM)
        return "dense" if dense else "pairs"


def _columns(x: Tensor) -> Tensor:
    """Rows as one picture of n x 1 in channels_last, for which torch has its fast batch norms."""
    return x.view(1, len(x), 1, x.shape[1]).permute(0, 3, 1, 2)


def _unpool(dy: Tensor, y: Tensor, x: Tensor, pool: Tensor | None) -> Tensor:
    """The gradient past the pooling and the ReLU, (n, C)."""
    if pool is None:
        return torch.ops.aten.threshold_backward(dy, y, 0.0)  # type: ignore[no-any-return]
    g = x.new_zeros(len(x) + 1, x.shape[1])
    rows = pool.long().t().remainder(len(g))
    for child in range(4):
        g[rows[child]] = dy * (y == child)
    return g[:-1]


def _padded(x: Tensor, table: Table) -> tuple[Tensor, Tensor]:
    """x with a row of zeros behind it, and the rows of the neighbours in that, int64 (9, n)."""
    if "gather" not in table.plans:
        table.plans["gather"] = table.near.t().long().remainder(len(x) + 1).contiguous()
    return functional.pad(x, (0, 0, 0, 1)), table.plans["gather"]


def _as_conv2d(weight: Tensor) -> Tensor:
    """(9, Cin, Cout) to (Cout, Cin, 3, 3)."""
    return weight.reshape(3, 3, *weight.shape[1:]).permute(3, 2, 0, 1)


def _to_grid(x: Tensor, table: Table) -> Tensor:
    """Rows to (B, C, H, W) in channels_last, 0 at inactive sites."""
    batch, height, width = table.shape
    if not table.full:
        x = x.new_zeros(batch * height * width, x.shape[1]).index_copy_(0, table.sites, x)
    return x.view(batch, height, width, x.shape[1]).permute(0, 3, 1, 2)


def _from_grid(grid: Tensor, table: Table) -> Tensor:
    rows = grid.permute(0, 2, 3, 1).flatten(0, 2)
    return rows if table.full else rows.index_select(0, table.sites)


def _chunks(table: Table) -> list[Chunk]:
    """The pairs of all taps, chunk by chunk, made once a table."""
    if "pairs" not in table.plans:
        n = len(table.near)
        count = -(-n // CHUNK)
        there = table.near >= 0
        padded = functional.pad(there, (0, 0, 0, count * CHUNK - n)).view(count, CHUNK, 9)
        by_tap = padded.transpose(1, 2)
        chunk, tap, row = by_tap.nonzero(as_tuple=True)
        target = chunk * CHUNK + row
        source = table.near.flatten()[target * 9 + tap].long()
        # A pair's place among its chunk's, by tap; read in the order of rows.
        place = torch.empty_like(by_tap, dtype=torch.int64).masked_scatter_(by_tap, torch.arange(len(target)))
        order = place.transpose(1, 2)[padded]
        starts = there.sum(1).cumsum(0)
        starts = functional.pad(starts[:-1], (1, 0)) if n else starts
        plan, begin = [], 0
        for i, counts in enumerate(padded.sum(1).tolist()):
            first, last, end, spans, at = i * CHUNK, min(n, (i + 1) * CHUNK), begin + sum(counts), [], 0
            for k, pairs in enumerate(counts):
                if pairs:
                    spans.append((k, at, at + pairs))
                at += pairs
            plan.append(
                Chunk(
                    first=first,
                    last=last,
                    source=source[begin:end],
                    target=target[begin:end],
                    spans=tuple(spans),
                    order=order[begin:end] - begin,
                    offsets=starts[first:last] - begin,
                )
            )
            begin = end
        table.plans["pairs"] = plan
    found: list[Chunk] = table.plans["pairs"]
    return found

"""The kernels in PyTorch, for any device.

A convolution takes one of three ways, which differ in rounding only:

windows on a CPU, for 4x4 sites most of which are active: see winograd.py.
pairs   on a CPU, for the others: see pairs.py.
gather  on other devices: the nine neighbours of a row are gathered side by side, with a row of zeros for those that are
        not active, and multiplied at once. Two launches for up to PATCHES numbers; nothing waits for the device, and
        nothing is summed in an order of chance.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mesm_train.data import device as accelerator
from mesm_train.models import kernels
from mesm_train.models.kernels import Finish, Sites, Table, pairs, winograd
from mesm_train.models.kernels.choice import Choice, choose

Way = Literal["auto", "windows", "pairs", "gather"]
PATCHES = 2**26  # numbers that are gathered at a time: 256 MiB of float32
PIECE = 4096  # rows whose sums are then added in float64


class PureKernels:
    """See Kernels. `way` is for tests and measurements."""

    name = "torch"
    batch_invariant = False
    min_windows = 80  # as in native.py: 72 take the time of pairs, 96 take .75 to .95 of it
    dense_from = 64 * 128  # on a CPU; with fewer channels the transforms weigh too much

    def __init__(self, way: Way = "auto") -> None:
        self.way = way

    def choose(self, scores: Tensor, active: Tensor, p: float, tile: int = 1) -> Choice:
        """See Kernels."""
        return choose(scores, active, p, tile)

    def tables(
        self, kept: Tensor, count: int, pooled: int, *, ends: Tensor | None = None, rank: Tensor | None = None
    ) -> Table:
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
        windows = (children >= 0).any(1)
        places = torch.nonzero_static(windows, size=pooled).squeeze(1)
        return Table(
            shape=(batch, height, width), sites=sites, near=near, pool=children[places],
            pooled=Sites(active=windows.view(batch, height // 2, width // 2), places=places),
        )  # fmt: skip

    def as_batch_invariant(self) -> None:
        """None: a library's products may differ with the number of rows."""

    def conv(
        self, x: Tensor, weight: Tensor, table: Table, *, bias: Tensor | None = None, mirror: bool = False
    ) -> Tensor:
        """See Kernels."""
        if mirror:
            weight = weight.flip(0).transpose(1, 2)
        if self._gathers(x):
            y = _gathered(x, weight, table)
        else:
            plan = self._plan(table)
            padded = x.new_empty(len(x) + 1, weight.shape[2])
            winograd.conv(x, weight, plan[0], padded)
            pairs.conv(x, weight, plan[1], padded)
            y = padded[:-1]
        return y if bias is None else y.add_(bias)

    def conv_weight(self, x: Tensor, dy: Tensor, table: Table) -> Tensor:
        """See Kernels."""
        dw = x.new_zeros(9, x.shape[1], dy.shape[1])
        if self._gathers(x):
            for patches, rows in _patches(x, table):
                dw.flatten(0, 1).addmm_(patches.t(), dy[rows])
            return dw
        plan = self._plan(table)
        winograd.conv_weight(x, dy, plan[0], dw)
        pairs.conv_weight(x, dy, plan[1], dw)
        return dw

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """See Kernels."""
        return x @ weight

    def moments(self, x: Tensor) -> Tensor:
        """See Kernels."""
        if not len(x):
            return x.new_zeros(2, x.shape[1], dtype=torch.float64)
        # The variance first, around the mean: the sum of squares in float32 would lose it. In one piece torch sums
        # 400,000 rows on a CPU to a variance that is off by 1.5e-3, in the same time.
        sums = torch.zeros(2, x.shape[1], dtype=torch.float64, device=x.device)
        for piece in _pieces(x):
            if not accelerator.is_accelerator(x.device):
                mean, variance = torch.batch_norm_update_stats(_columns(piece), None, None, 0.0)
            else:
                variance, mean = torch.var_mean(piece, dim=0, correction=0)
            mean = mean.double()
            sums += len(piece) * torch.stack([mean, variance.double() + mean * mean])
        return sums

    def normalise(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """See Kernels."""
        return torch.addcmul(shift, x, scale).relu_()

    def normalise_pool(self, x: Tensor, scale: Tensor, shift: Tensor, pool: Tensor) -> tuple[Tensor, Tensor]:
        """See Kernels."""
        y = x.new_zeros(len(x) + 1, x.shape[1])
        torch.addcmul(shift, x, scale, out=y[:-1])
        y[:-1].relu_()
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
        sums = torch.zeros(2, x.shape[1], dtype=torch.float64, device=x.device)
        for some, rows in zip(_pieces(g), _pieces(x), strict=True):
            sums += _sums(some, rows, mean)
        coefficients = finish(sums)
        if coefficients is None:
            return sums, None
        scale, slope, shift = coefficients
        return sums, torch.addcmul(shift - slope * mean, x, slope).addcmul_(g, scale)

    def _gathers(self, x: Tensor) -> bool:
        return self.way == "gather" or (self.way == "auto" and accelerator.is_accelerator(x.device))

    def _plan(self, table: Table) -> tuple[list[winograd.Chunk], list[pairs.Chunk]]:
        """What is computed window by window, and the rest; made once a table."""
        if "plan" not in table.plans:
            windows, alone = winograd.windows(table, 1 if self.way == "windows" else kernels.MIN_PAIRS)
            if self.way == "pairs" or (self.way == "auto" and len(windows) < self.min_windows):
                windows, alone = windows[:0], torch.arange(len(table.sites))
            table.plans["plan"] = winograd.chunks(windows), pairs.chunks(table, alone)
        plan: tuple[list[winograd.Chunk], list[pairs.Chunk]] = table.plans["plan"]
        return plan


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    """So many rows that a CPU may sum them in their own precision."""
    return torch.split(x, PIECE) if not accelerator.is_accelerator(x.device) else (x,)


def _columns(x: Tensor) -> Tensor:
    """Rows as one picture of n x 1 in channels_last, for which torch has its fast batch norms."""
    return x.view(1, len(x), 1, x.shape[1]).permute(0, 3, 1, 2)


def _sums(g: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    """float64 (2, C): of g and of g * (x - mean)."""
    if accelerator.is_accelerator(x.device) or not len(x):
        return torch.stack([g.sum(0), (g * (x - mean)).sum(0)]).double()
    one = torch.ones_like(mean)  # as the weight and the 1 / standard deviation; torch sums both in one pass
    _, centred, plain = torch.ops.aten.native_batch_norm_backward(
        _columns(g), _columns(x), one, None, None, mean, one, True, 0.0, [False, True, True]
    )
    return torch.stack([plain, centred]).double()


def _unpool(dy: Tensor, y: Tensor, x: Tensor, pool: Tensor | None) -> Tensor:
    """The gradient past the pooling and the ReLU, (n, C)."""
    if pool is None:
        return torch.ops.aten.threshold_backward(dy, y, 0.0)  # type: ignore[no-any-return]
    g = x.new_zeros(len(x) + 1, x.shape[1])
    rows = pool.long().t().remainder(len(g))
    for child in range(4):
        g[rows[child]] = dy * (y == child)
    return g[:-1]


def _patches(x: Tensor, table: Table) -> Iterator[tuple[Tensor, slice]]:
    """The neighbours of some rows side by side, (rows, 9 C), and which rows."""
    count, channels = x.shape
    if "gather" not in table.plans:  # -1 becomes the row of zeros
        table.plans["gather"] = table.near.long().remainder(count + 1)
    padded, places = functional.pad(x, (0, 0, 0, 1)), table.plans["gather"]
    step = max(1, PATCHES // (9 * channels))
    for start in range(0, count, step):
        some = places[start : start + step]
        patches = padded.index_select(0, some.flatten()).view(len(some), 9 * channels)
        yield patches, slice(start, start + len(some))


def _gathered(x: Tensor, weight: Tensor, table: Table) -> Tensor:
    y = x.new_empty(len(x), weight.shape[2])
    taps = weight.flatten(0, 1)
    for patches, rows in _patches(x, table):
        torch.mm(patches, taps, out=y[rows])
    return y

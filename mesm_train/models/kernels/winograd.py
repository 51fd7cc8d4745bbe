"""3x3 convolutions of 4x4 windows of sites by Winograd's minimal filtering F(4x4, 3x3), in PyTorch on a CPU.

Y = A' [(G g G') . (B' d B)] A for a 3x3 filter g and the 6x6 sites d around a window: 36 products a pair of channels
for the 144 of a full one. It costs a digit: in float32 the rms error is 1.3e-6 of the outputs' spread, of a plain sum
1.2e-7 (64 channels). The matrices are those of Lavin and Gray, Fast Algorithms for Convolutional Neural Networks
(2016), for the points 0, 1, -1, 2, -2. Here a pair of them is one 36 x 36 matrix (16 x 36, 36 x 9), so that all is
products of matrices.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from mesm_train.models.kernels import Table

SITES, POINTS, OUTPUTS = 36, 36, 16
CHUNK = 72  # windows of a lane: at 64 channels their sites and their points are 0.7 MB each
LANES = 4  # at most: each has its own copy of a layer's filters

INPUT = (  # B'
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
FILTER = (  # G, times 24
    (6, 0, 0),
    (-4, -4, -4),
    (-4, 4, -4),
    (1, 2, 4),
    (1, -2, 4),
    (0, 0, 24),
)
OUTPUT = (  # A'
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some windows in lanes of as many: the rows of their sites and of the middle ones, which are computed, int64.

    Threads share an operation out by its outermost dimension. With lanes there a thread finds in its own cache what it
    wrote in the operation before; without, two cores that had no common cache took half as long again.
    """

    lanes: int
    sites: Tensor  # (lanes * 36 * windows of a lane,), 0 where there is none
    missing: Tensor  # the places of those
    outputs: Tensor  # (lanes * 16 * windows of a lane,), 0 where there is none
    unwanted: Tensor  # the places of those


def windows(table: Table, least: int) -> tuple[Tensor, Tensor]:
    """The windows of 4x4 sites with at least `least` pairs of neighbours, int32 (w, 36), and the rows in none, int64.

    A window is the rows of its 6x6 sites, the border included, (y, x); -1 where there is none.
    """
    batch, height, width = table.shape
    down, across = -(-height // 4), -(-width // 4)
    count = batch * height * width
    rows = torch.arange(len(table.sites))
    rank = torch.full((count,), -1, dtype=torch.int32).index_copy_(0, table.sites, rows.int()).view(table.shape)
    framed = functional.pad(rank, (1, 4 * across - width + 1, 1, 4 * down - height + 1), value=-1)
    pairs = torch.zeros(count, dtype=torch.int64).index_copy_(0, table.sites, (table.near >= 0).sum(1))
    padded = functional.pad(pairs.view(table.shape), (0, 4 * across - width, 0, 4 * down - height))
    chosen = padded.view(batch, down, 4, across, 4).sum((2, 4)) >= least
    found = framed.unfold(1, 6, 4).unfold(2, 6, 4)[chosen].reshape(-1, SITES)
    covered = chosen.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width].flatten()
    return found, rows[~covered[table.sites]]


def chunks(windows: Tensor) -> list[Chunk]:
    """Of windows int32 (w, 36)."""
    lanes = min(torch.get_num_threads(), LANES)
    windows = functional.pad(windows.long(), (0, 0, 0, -len(windows) % lanes), value=-1)
    found = []
    for part in torch.split(windows, lanes * CHUNK) if len(windows) else ():
        sites = part.view(lanes, -1, SITES).transpose(1, 2)
        outputs = sites.reshape(lanes, 6, 6, -1)[:, 1:5, 1:5].flatten()
        missing, unwanted = (rows.flatten().lt(0).nonzero().squeeze(1) for rows in (sites, outputs))
        found.append(
            Chunk(
                lanes=lanes,
                sites=sites.flatten().clamp(min=0),
                missing=missing,
                outputs=outputs.clamp(min=0),
                unwanted=unwanted,
            )
        )
    return found


def conv(x: Tensor, weight: Tensor, plan: list[Chunk], y: Tensor) -> None:
    """The convolution of rows (n, Cin) with a weight (9, Cin, Cout) into those rows of y (n + 1, Cout).

    The last row of y is written with what nobody wants.
    """
    if not plan:
        return
    cin, cout = weight.shape[1:]
    filters = (_kron(FILTER, x) / 576 @ weight.reshape(9, -1)).view(POINTS, cin, cout).repeat(plan[0].lanes, 1, 1)
    spare = _spare(x, plan, POINTS * cout), _spare(x, plan, OUTPUTS * cout)
    for chunk, points in _points(x, plan):
        products = _shaped(spare[0], *points.shape[:3], cout)
        torch.bmm(points.flatten(0, 1), filters, out=products.flatten(0, 1))
        outputs = _apply(_kron(OUTPUT, x), products, spare[1])
        y.index_copy_(0, chunk.outputs.index_fill(0, chunk.unwanted, len(y) - 1), outputs.view(-1, cout))


def conv_weight(x: Tensor, dy: Tensor, plan: list[Chunk], dw: Tensor) -> None:
    """Add to dw (9, Cin, Cout) the gradient of the weight by those rows of dy (n, Cout)."""
    if not plan:
        return
    _, cin, cout = dw.shape
    total = x.new_zeros(POINTS, cin, cout)
    spare = _spare(x, plan, OUTPUTS * cout), _spare(x, plan, POINTS * cout)
    for chunk, points in _points(x, plan):
        outputs = _select(dy, chunk.outputs, chunk.unwanted, spare[0])
        gradient = _apply(_kron(OUTPUT, x).t(), outputs.view(chunk.lanes, OUTPUTS, -1, cout), spare[1])
        for mine, theirs in zip(points, gradient, strict=True):
            total.baddbmm_(mine.transpose(1, 2), theirs)
    dw += (_kron(FILTER, x).t() / 576 @ total.view(POINTS, -1)).view(dw.shape)


def _points(x: Tensor, plan: list[Chunk]) -> Iterator[tuple[Chunk, Tensor]]:
    """Each chunk and B' d B of its windows, (lanes, 36, windows, Cin), in memory that the next one takes again."""
    spare = _spare(x, plan, SITES * x.shape[1]), _spare(x, plan, POINTS * x.shape[1])
    for chunk in plan:
        sites = _select(x, chunk.sites, chunk.missing, spare[0])
        yield chunk, _apply(_kron(INPUT, x), sites.view(chunk.lanes, SITES, -1, x.shape[1]), spare[1])


def _select(x: Tensor, rows: Tensor, missing: Tensor, spare: Tensor) -> Tensor:
    """The rows of x, 0 for those that are missing."""
    found = _shaped(spare, len(rows), x.shape[1])
    torch.index_select(x, 0, rows, out=found)
    return found.index_fill_(0, missing, 0)


def _apply(matrix: Tensor, x: Tensor, spare: Tensor) -> Tensor:
    """The product of a matrix (M, N) with each lane of x (lanes, N, windows, C), (lanes, M, windows, C)."""
    found = _shaped(spare, x.shape[0], matrix.shape[0], *x.shape[2:])
    torch.bmm(matrix.expand(x.shape[0], -1, -1), x.flatten(2), out=found.flatten(2))
    return found


def _spare(x: Tensor, plan: list[Chunk], numbers: int) -> Tensor:
    """Memory for so many numbers of each window of a chunk."""
    return x.new_empty(len(plan[0].sites) // SITES * numbers)


def _shaped(spare: Tensor, *shape: int) -> Tensor:
    return spare[: prod(shape)].view(shape)


def _kron(matrix: tuple[tuple[int, ...], ...], like: Tensor) -> Tensor:
    one = torch.tensor(matrix, dtype=like.dtype)
    return torch.kron(one, one)

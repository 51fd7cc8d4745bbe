"""3x3 convolutions of 4x4 windows of sites by Winograd's minimal filtering F(4x4, 3x3), in PyTorch on a CPU.

Y = A' [(G g G') . (B' d B)] A for a 3x3 filter g and the 6x6 sites d around a window: 36 products a pair of channels
for the 144 of a full one. It costs a digit: in float32 the rms error is 1.3e-6 of the outputs' spread, of a plain sum
1.2e-7 (64 channels). The matrices are those of Lavin and Gray, Fast Algorithms for Convolutional Neural Networks
(2016), for the points 0, 1, -1, 2, -2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from mesm_train.models.kernels import Table

SITES, POINTS, OUTPUTS = 36, 36, 16
CHUNK = 48  # windows of a lane: at 64 channels their sites and their points are 0.4 MB each
LANES = 4  # at most: each has its own copy of a layer's filters, and of their gradient

Matrix = tuple[tuple[int, ...], ...]
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
    discarded: Tensor  # the places of those


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
    window_rows = framed.unfold(1, 6, 4).unfold(2, 6, 4)[chosen].reshape(-1, SITES)
    covered = chosen.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width].flatten()
    return window_rows, rows[~covered[table.sites]]


def chunks(windows: Tensor) -> list[Chunk]:
    """Of windows int32 (w, 36)."""
    lanes = min(torch.get_num_threads(), LANES)
    windows = functional.pad(windows.long(), (0, 0, 0, -len(windows) % lanes), value=-1)
    chunks_of_windows = []
    for part in torch.split(windows, lanes * CHUNK) if len(windows) else ():
        sites = part.view(lanes, -1, SITES).transpose(1, 2)
        outputs = sites.reshape(lanes, 6, 6, -1)[:, 1:5, 1:5].flatten()
        missing, discarded = (rows.flatten().lt(0).nonzero().squeeze(1) for rows in (sites, outputs))
        chunks_of_windows.append(
            Chunk(
                lanes=lanes,
                sites=sites.flatten().clamp(min=0),
                missing=missing,
                outputs=outputs.clamp(min=0),
                discarded=discarded,
            )
        )
    return chunks_of_windows


def conv(x: Tensor, weight: Tensor, plan: list[Chunk], y: Tensor) -> None:
    """The convolution of rows (n, Cin) with a weight (9, Cin, Cout) into those rows of y (n + 1, Cout).

    The last row of y is written with what nobody wants.
    """
    if not plan:
        return
    cin, cout = weight.shape[1:]
    filters = (_filters(x) @ weight.reshape(9, -1)).view(POINTS, cin, cout).repeat(plan[0].lanes, 1, 1)
    spare, back = _spare(x, plan, POINTS * cout), _Turn(OUTPUT, x, plan, cout)
    for chunk, points in _points(x, plan):
        products = _shaped(spare, *points.shape[:3], cout)
        torch.bmm(points.flatten(0, 1), filters, out=products.flatten(0, 1))
        outputs = back(products).view(-1, cout)
        y.index_copy_(0, chunk.outputs.index_fill(0, chunk.discarded, len(y) - 1), outputs)


def conv_weight(x: Tensor, dy: Tensor, plan: list[Chunk], dw: Tensor) -> None:
    """Add to dw (9, Cin, Cout) the gradient of the weight by those rows of dy (n, Cout)."""
    if not plan:
        return
    _, cin, cout = dw.shape
    total = x.new_zeros(plan[0].lanes, POINTS, cin, cout)
    spare, spread = _spare(x, plan, OUTPUTS * cout), _Turn(tuple(zip(*OUTPUT, strict=True)), x, plan, cout)
    for chunk, points in _points(x, plan):
        gradient = spread(_select(dy, chunk.outputs, chunk.discarded, spare, (chunk.lanes, OUTPUTS, -1)))
        total.flatten(0, 1).baddbmm_(points.flatten(0, 1).transpose(1, 2), gradient.flatten(0, 1))
    dw += (_filters(x).t() @ total.sum(0).view(POINTS, -1)).view(dw.shape)


def _points(x: Tensor, plan: list[Chunk]) -> Iterator[tuple[Chunk, Tensor]]:
    """Each chunk and B' d B of its windows, (lanes, 36, windows, Cin), in memory that the next one takes again."""
    spare, into = _spare(x, plan, SITES * x.shape[1]), _Turn(INPUT, x, plan, x.shape[1])
    for chunk in plan:
        yield chunk, into(_select(x, chunk.sites, chunk.missing, spare, (chunk.lanes, SITES, -1)))


class _Turn:
    """M d M' for a matrix M (m, n) and squares d of n x n: (lanes, n n, windows, C) to (lanes, m m, windows, C).

    First M d, then the rest; as one matrix of m m x n n it took up to twice as long.
    """

    def __init__(self, matrix: Matrix, x: Tensor, plan: list[Chunk], channels: int) -> None:
        self.matrix = _matrix(matrix, x)
        self.m, self.n = self.matrix.shape
        self.between = _spare(x, plan, self.m * self.n * channels)
        self.after = _spare(x, plan, self.m * self.m * channels)

    def __call__(self, x: Tensor) -> Tensor:
        lanes, _, windows, channels = x.shape
        m, n, line = self.m, self.n, windows * channels
        between = _shaped(self.between, lanes, m, n * line)
        torch.bmm(self.matrix.expand(lanes, m, n), x.view(lanes, n, n * line), out=between)
        after = _shaped(self.after, lanes * m, m, line)
        torch.bmm(self.matrix.expand(lanes * m, m, n), between.view(lanes * m, n, line), out=after)
        return after.view(lanes, m * m, windows, channels)


def _select(x: Tensor, rows: Tensor, missing: Tensor, spare: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The rows of x, 0 for those that are missing, as (*shape, C)."""
    selected = _shaped(spare, len(rows), x.shape[1])
    torch.index_select(x, 0, rows, out=selected)
    return selected.index_fill_(0, missing, 0).view(*shape, x.shape[1])


def _spare(x: Tensor, plan: list[Chunk], numbers: int) -> Tensor:
    """Memory for so many numbers of each window of a chunk."""
    return x.new_empty(len(plan[0].sites) // SITES * numbers)


def _shaped(spare: Tensor, *shape: int) -> Tensor:
    return spare[: prod(shape)].view(shape)


def _filters(like: Tensor) -> Tensor:
    """(36, 9): a filter g to G g G'."""
    one = _matrix(FILTER, like) / 24
    return torch.kron(one, one)


def _matrix(matrix: Matrix, like: Tensor) -> Tensor:
    return torch.tensor(matrix, dtype=like.dtype)

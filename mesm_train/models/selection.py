"""Which sites a sparse block keeps: text-guided attention over sites, or over tiles of sites, and a nucleus of it.

A tile is a square of `tile` x `tile` sites; tiles at the lower and right border may be smaller. A tile is kept or
dropped as a whole, but sites that are not active stay inactive.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mesm_train.models.kernels import Kernels


def to_grid(rows: Tensor, places: Tensor, active: Tensor) -> Tensor:
    """Rows (n, C) at their places in bool (B, H, W) as a grid (B, C, H, W) in channels_last, 0 elsewhere."""
    count = active.numel()
    full = rows if len(rows) == count else rows.new_zeros(count, rows.shape[1]).index_copy(0, places, rows)
    return full.view(*active.shape, rows.shape[1]).permute(0, 3, 1, 2)


def tile_sums(grid: Tensor, tile: int) -> Tensor:
    """The sum over each tile of (B, C, H, W): (B, C, H', W').

    Pooling adds the sites of a tile in a fixed order on every device, whatever else is in the batch.
    """
    return F.avg_pool2d(grid, tile, ceil_mode=True, divisor_override=1)


def spread(values: Tensor, tile: int, like: Tensor) -> Tensor:
    """The values of tiles (B, H', W') at each of their sites, (B, H, W) as `like` has them."""
    return values.repeat_interleave(tile, 1).repeat_interleave(tile, 2)[:, : like.shape[1], : like.shape[2]]


class SiteAttention(nn.Module):
    """Text-guided attention over the sites of a picture: softmax of w . tanh(W_x site + W_y text) + b.

    With tiles a site's score is that of the mean features of its tile's active sites.
    """

    def __init__(self, channels: int, text_width: int, tile: int = 1) -> None:
        super().__init__()
        self.tile = tile
        self.site = nn.Linear(channels, channels)
        self.text = nn.Linear(text_width, channels, bias=False)
        self.score = nn.Linear(channels, 1)

    def forward(self, rows: Tensor, active: Tensor, places: Tensor, text: Tensor, ops: Kernels) -> Tensor:
        """Weights (B, H, W), at least float32: summing to 1 over the active sites of a picture, 0 elsewhere.

        Args:
            rows: (n, C), the active sites.
            active: bool (B, H, W).
            places: int64 (n,), where the rows are in it.
            text: (B, text width).
            ops: the kernels.
        """
        # Not in bfloat16: its 8 bits would leave most of some hundred nearly equal weights tied.
        with torch.autocast(rows.device.type, enabled=False):
            dtype = self.score.weight.dtype
            rows, text = rows.to(dtype), text.to(dtype)
            lowest = torch.finfo(dtype).min
            if self.tile > 1:
                counts = tile_sums(active[:, None].to(dtype), self.tile)[:, 0]
                means = tile_sums(to_grid(rows, places, active), self.tile) / counts[:, None].clamp(min=1)
                tiles = means.permute(0, 2, 3, 1).reshape(counts.numel(), rows.shape[1])
                scores = self._scores(tiles, torch.arange(len(tiles), device=rows.device), counts, text, ops)
                grid = spread(scores.view(counts.shape), self.tile, active).masked_fill(~active, lowest)
            else:
                scores = self._scores(rows, places, active, text, ops)
                grid = scores.new_full((active.numel(),), lowest).index_copy(0, places, scores).view(active.shape)
            sites = active.shape[1] * active.shape[2]
            weights: Tensor = grid.reshape(active.shape[0], sites).softmax(1).view(active.shape)
            return weights.masked_fill(~active, 0)

    def _scores(self, rows: Tensor, places: Tensor, grid: Tensor, text: Tensor, ops: Kernels) -> Tensor:
        """Scores (n,) of rows (n, C) that lie at `places` of a grid (B, H, W)."""
        picture = places // (grid.shape[1] * grid.shape[2])
        if ops.exact:
            return self._exact_scores(rows, picture, text, ops)
        sites = self.site(rows) + self.text(text).index_select(0, picture)
        scores: Tensor = self.score(torch.tanh(sites)).squeeze(1)
        return scores

    def _exact_scores(self, rows: Tensor, picture: Tensor, text: Tensor, ops: Kernels) -> Tensor:
        """Scores in float64 that do not depend on what else is in the batch.

        The product is exact in that; what follows is off by some 1e-16, which with how many rows there are may differ.
        """
        assert self.site.bias is not None
        sites = ops.product(rows.contiguous(), self.site.weight.t().contiguous()).double() + self.site.bias
        guide = text.double() @ self.text.weight.double().t()
        return torch.tanh(sites + guide.index_select(0, picture)) @ self.score.weight[0].double() + self.score.bias


def nucleus(weights: Tensor, active: Tensor, p: float, tile: int = 1) -> Tensor:
    """The fewest active sites, or tiles of them, heaviest first, whose weights reach `p`: bool (B, H, W).

    A site is kept while the weights before it sum to less than `p`, so each picture with an active site keeps at least
    one. Equal weights are taken in the order (y, x). At p = 1 all active sites are kept, whatever the rounding. Tiles
    are ordered by the weight of their sites, which is the same for all of a tile (`SiteAttention`).

    Args:
        weights: (B, H, W), summing to 1 over the active sites of a picture.
        active: bool (B, H, W).
        p: above 0 and at most 1.
        tile: sites of a tile's side.
    """
    if p >= 1:
        return active
    mass, heaviest = weights, weights
    if tile > 1:
        mass = tile_sums(weights[:, None], tile)[:, 0]
        heaviest = F.max_pool2d(weights[:, None], tile, ceil_mode=True)[:, 0]
        usable = F.max_pool2d(active[:, None].to(weights.dtype), tile, ceil_mode=True)[:, 0] > 0
    else:
        usable = active
    order = heaviest.masked_fill(~usable, -1).flatten(1).sort(dim=1, descending=True, stable=True).indices
    ordered = mass.masked_fill(~usable, 0).flatten(1).gather(1, order)
    heavier = F.pad(ordered.double().cumsum(1)[:, :-1], (1, 0))
    kept = torch.zeros_like(usable.flatten(1)).scatter(1, order, heavier < p).view_as(usable) & usable
    return kept if tile == 1 else spread(kept, tile, active) & active


def scale_published(weights: Tensor, active: Tensor) -> Tensor | None:
    """The published model scales nothing: the choice is hard and the attention is never trained."""
    return None


def scale_gate(weights: Tensor, active: Tensor) -> Tensor | None:
    """Attention relative to an even one, r, as 2 r / (1 + r): 1 where it is even, between 0 and 2 everywhere.

    Without the bound r reaches the number of sites, and training by it failed (docs/benchmarks.md).
    """
    relative = weights * active.sum((1, 2), keepdim=True)
    return 2 * relative / (1 + relative)


def scale_straight(weights: Tensor, active: Tensor) -> Tensor | None:
    """1 in value, the gate in gradient: the published forward pass, with an attention that learns."""
    gate = scale_gate(weights, active)
    assert gate is not None
    return 1 + (gate - gate.detach())


# How the kept sites are scaled by their attention, which is how the attention can learn: (weights, active) to a factor
# for each site, or None. A further way to train the choice is a further entry here.
SCALES = {"published": scale_published, "gate": scale_gate, "straight": scale_straight}

"""Which sites a sparse block keeps: the nucleus of its attention, over single sites or over tiles of them."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a block keeps of B pictures of H x W sites."""

    weights: Tensor  # float (B, H, W): attention, summing to 1 over the active sites of a picture; 0 elsewhere
    kept: Tensor  # bool (B, H, W)
    counts: Tensor  # int64 (3,): kept sites, 2x2 windows with any of them, weights that are NaN
    ends: Tensor | None = None  # int64 (3, B): the same counts up to and with each picture, where they come so


def choose(scores: Tensor, active: Tensor, p: float, tile: int = 1) -> Choice:
    """The softmax of the scores over the active sites, and its nucleus.

    Args:
        scores: (B, H, W) of sites, or (B, H', W') of tiles; those of inactive sites do not count.
        active: bool (B, H, W), H and W even; with tiles all of them.
        p: the share of the attention to keep, above 0 and at most 1.
        tile: the side of a tile in sites: 1 or an even number. Tiles at the lower and right border may have fewer
            sites. A tile's attention is shared evenly by its sites.
    """
    batch, height, width = active.shape
    if tile == 1:
        lowest = torch.finfo(scores.dtype).min
        weights = scores.masked_fill(~active, lowest).flatten(1).softmax(1).view(active.shape).masked_fill(~active, 0)
        kept = nucleus(weights.detach(), active, p)
    else:
        sizes = tile_sizes(height, width, tile, scores)
        masses = (scores + sizes.log()).flatten(1).softmax(1).view(scores.shape)
        of_tiles = masses / sizes
        kept = spread(nucleus(masses.detach(), None, p, of_tiles.detach()), tile, height, width)
        weights = spread(of_tiles, tile, height, width)
    windows = kept.view(batch, height // 2, 2, width // 2, 2).any(4).any(2)
    counts = torch.stack([kept.sum(), windows.sum(), weights.isnan().sum()])  # a softmax is finite or NaN
    return Choice(weights=weights, kept=kept, counts=counts)


def nucleus(weights: Tensor, active: Tensor | None, p: float, order: Tensor | None = None) -> Tensor:
    """The fewest active sites, heaviest first, whose weights reach `p`: bool (B, H, W).

    A site is kept while the weights before it sum to less than `p`, so each picture with an active site keeps at least
    one. Equal weights are taken in the order (y, x). At p = 1 all active sites are kept, whatever the rounding.

    Args:
        weights: (B, H, W), summing to 1 over the active sites of a picture.
        active: bool (B, H, W); None: all.
        p: above 0 and at most 1.
        order: (B, H, W), what goes first, where that is not the heaviest; at least 0.
    """
    if p >= 1:
        return torch.ones_like(weights, dtype=torch.bool) if active is None else active
    flat = weights.flatten(1)
    keys = flat if order is None else order.flatten(1)
    if active is not None:
        keys = keys.masked_fill(~active.flatten(1), -1)
    chosen = keys.sort(dim=1, descending=True, stable=True).indices
    heavier = functional.pad(flat.gather(1, chosen).double().cumsum(1)[:, :-1], (1, 0))
    kept = torch.empty_like(flat, dtype=torch.bool).scatter_(1, chosen, heavier < p).view_as(weights)
    return kept if active is None else kept & active


def tile_sizes(height: int, width: int, tile: int, like: Tensor) -> Tensor:
    """How many sites each tile of a picture has, (H', W')."""
    sites = like.new_ones(1, height, width)
    return functional.avg_pool2d(sites, tile, ceil_mode=True, divisor_override=1).squeeze(0)


def spread(values: Tensor, tile: int, height: int, width: int) -> Tensor:
    """The values of tiles (B, H', W') at each of their sites, (B, height, width)."""
    batch, down, across = values.shape
    sites = values[:, :, None, :, None].expand(batch, down, tile, across, tile)
    return sites.reshape(batch, down * tile, across * tile)[:, :height, :width]

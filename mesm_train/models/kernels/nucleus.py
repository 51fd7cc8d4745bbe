"""Which sites a sparse block keeps: the nucleus of its attention."""

import torch
from torch import Tensor
from torch.nn import functional


def nucleus(weights: Tensor, active: Tensor, p: float, order: Tensor | None = None) -> Tensor:
    """The fewest active sites, heaviest first, whose weights reach `p`: bool (B, H, W).

    A site is kept while the weights before it sum to less than `p`, so each picture with an active site keeps at least
    one. Equal weights are taken in the order (y, x). At p = 1 all active sites are kept, whatever the rounding.

    Args:
        weights: (B, H, W), summing to 1 over the active sites of a picture.
        active: bool (B, H, W).
        p: above 0 and at most 1.
        order: (B, H, W), what goes first, where that is not the heaviest; at least 0.
    """
    if p >= 1:
        return active
    flat, usable = weights.flatten(1), active.flatten(1)
    keys = flat if order is None else order.flatten(1)
    chosen = keys.masked_fill(~usable, -1).sort(dim=1, descending=True, stable=True).indices
    heavier = functional.pad(flat.gather(1, chosen).double().cumsum(1)[:, :-1], (1, 0))
    kept = torch.zeros_like(usable).scatter(1, chosen, heavier < p)
    return (kept & usable).view_as(active)

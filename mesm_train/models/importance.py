"""Which sites or tiles of a grid matter: the Taylor criterion of pruning, averaged over pictures and updates.

Face crops and spectrograms are aligned, so that mostly the same places matter in all of them. A choice that knows these
places is stable from picture to picture, and the network trains as a dense one on a part of the grid
(docs/experiments.md has what that is worth).
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

RATE = 0.05  # weight of an update in the moving average; some 80 updates measured it in docs/experiments.md
# A tile counts as this important at least, relative to the mean: so the text can bring it back, also after many updates
# without any effect, as of silence. In the runs of docs/experiments.md none ended below .24.
FLOOR = 0.2


class Importance(nn.Module):
    """The importance of each tile of a grid relative to their mean, as a moving average; 1 at first.

    A tile may be a single site. The importance of a tile in one picture is (sum over its sites and channels of x
    dL/dx)^2: to first order, the squared change of the loss if the tile were zero. Molchanov et al. (2017, 2019) and
    Theis et al. (2018) prune whole channels by it. Pictures that drop the tile are left out: only what they pass on of
    it has a gradient.

    Attributes:
        value: float (H', W'), in checkpoints.
        sums: float64 (2, H', W') since the last update: of the importance, and of how many pictures kept the tile.
        learning: Whether updates change it.
    """

    value: Tensor
    sums: Tensor

    def __init__(self, tile: int, height: int, width: int) -> None:
        """Of tiles of `tile` x `tile` sites on a grid of `height` x `width` sites."""
        super().__init__()
        self.tile, self.learning = tile, False
        shape = (-(-height // tile), -(-width // tile))
        self.register_buffer("value", torch.ones(shape))
        self.register_buffer("sums", torch.zeros(2, *shape, dtype=torch.float64), persistent=False)

    def prior(self) -> Tensor:
        """What the scores of tiles get added, (H', W'): the logarithm of their importance, 0 where all are even."""
        return (self.value / self.value.mean()).clamp(min=FLOOR).log()

    def watch(self, x: Tensor, kept: Tensor, places: Tensor | None = None) -> None:
        """Add up the importance of the kept tiles, once x gets its gradient.

        Args:
            x: (B, C, H, W), or the rows (n, C) of some sites.
            kept: bool (B, H', W').
            places: int64 (n,), where the rows are in (B, H, W), for single sites.
        """
        if self.learning and x.requires_grad:
            x.register_hook(partial(self._add, x.detach(), kept, places))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _add(self, x: Tensor, kept: Tensor, places: Tensor | None, gradient: Tensor) -> None:
        precision = self.value.dtype  # that of the parameters, also under autocast
        effect = (x.to(precision) * gradient.to(precision)).sum(1, dtype=torch.float64)
        if places is not None:
            effect = effect.new_zeros(kept.numel()).index_copy(0, places, effect).view(kept.shape)
        if self.tile > 1:
            effect = F.avg_pool2d(effect.unsqueeze(1), self.tile, ceil_mode=True, divisor_override=1).squeeze(1)
        self.sums += torch.stack([(effect.square() * kept).sum(0), kept.sum(0)])

    @torch.no_grad()
    def update(self, sums: Tensor) -> None:
        """Take an update's sums, as `sums` has them, over all ranks. Tiles that nobody kept stay as they are."""
        total, count = sums
        kept = count > 0
        mean = total / count.clamp(min=1)
        relative = mean / mean.sum() * kept.sum()
        known = kept & relative.isfinite()  # not where all are 0, or where a gradient in half precision overflowed
        self.value.copy_(torch.where(known, self.value.lerp(relative.to(self.value.dtype), RATE), self.value))
        self.sums.zero_()


def update_importance(modules: Iterable[nn.Module], reduce: Callable[[Tensor], Tensor] | None) -> None:
    """End an update of a model: take the sums of its backward passes, with one `reduce` over ranks for all of them."""
    learning = [module for module in modules if isinstance(module, Importance) and module.learning]
    if not learning:
        return
    sums = torch.cat([each.sums.flatten() for each in learning])
    sums = sums if reduce is None else reduce(sums)
    parts = torch.split(sums, [each.sums.numel() for each in learning])
    for each, part in zip(learning, parts, strict=True):
        each.update(part.view_as(each.sums))

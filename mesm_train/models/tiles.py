"""MESM's sparse blocks over tiles, squares of 2x2 or 4x4 sites, which are kept or dropped as a whole.

Fast convolutions compute squares of sites, so with tiles a block's time follows its operations (docs/benchmarks.md).
What a block drops is passed on: the mean of each dropped 2x2 window goes through a linear layer, batch norm and ReLU,
1 % of the operations of a block. So grids stay full, and a later block may keep what an earlier one has dropped.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mesm_train.config.model_settings import SparseSettings
from mesm_train.models.importance import Importance
from mesm_train.models.kernels import Kernels
from mesm_train.models.kernels.functions import select_rows
from mesm_train.models.kernels.nucleus import nucleus
from mesm_train.models.norm import BatchNorm
from mesm_train.models.selection import SCALES
from mesm_train.models.sparse import ChoosingBlock, SparseStack, separate_random_numbers
from mesm_train.models.streams import Trace


class TiledBlock(ChoosingBlock):
    """Attention over the mean features of tiles, choice of tiles, Conv3x3 BN ReLU twice on them, MaxPool2.

    A tile's weight is shared evenly by its sites; tiles at the lower and right border may have fewer of them.
    """

    def __init__(
        self, inputs: int, outputs: int, size: tuple[int, int], text_width: int, settings: SparseSettings, name: str
    ) -> None:
        super().__init__(inputs, outputs, size, text_width, settings, name)
        self.tile = settings.tile
        self.importance = Importance(self.tile, *size)
        with separate_random_numbers():
            self.residual = nn.Linear(inputs, outputs, bias=False)
        self.residual_norm = BatchNorm(outputs, eps=settings.bn_eps, momentum=settings.bn_momentum)

    def set_epoch(self, epoch: float) -> None:
        """See ChoosingBlock. While p is annealed, the importance of the tiles is learned, if the choice learns."""
        super().set_epoch(epoch)
        self.importance.learning = self.selection != "published" and self.training_p > self.p

    def forward(self, x: Tensor, text: Tensor, ops: Kernels) -> tuple[Tensor, Trace]:
        """Choose among the tiles, convolve those that are kept, pool, and pass on the means of the others.

        Args:
            x: (B, C, H, W) in channels_last; H and W even.
            text: (B, text width), the text vector of each picture's utterance.
            ops: the kernels.

        Returns:
            The pooled grid (B, C', H/2, W/2) in channels_last, and the choice.

        Raises:
            ValueError: the attention is not finite.
        """
        channels, height, width = x.shape[1:]
        windows = F.avg_pool2d(x, 2)
        with self.grad_for_attention():
            weights = self._weights(windows, text, ops)  # of a site in each tile
        sizes = self._sizes(height, width, weights)
        kept = nucleus(weights.detach() * sizes, torch.ones_like(weights, dtype=torch.bool), self.current_p(), weights)
        if self.training:
            self.importance.watch(x, kept)
        kept_sites = spread(kept, self.tile, height, width)
        kept_windows = spread(kept, self.tile // 2, height // 2, width // 2)
        count, remaining = self.counts(kept_sites, kept_windows, weights)
        table = ops.tables(kept_sites, count, remaining)
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        weights = spread(weights, self.tile, height, width)
        trace = Trace(active=torch.ones_like(kept_sites), weights=weights.detach(), kept=kept_sites)
        chosen = rows if count == len(rows) else select_rows(rows, table.sites)
        y = self.convolve(chosen, SCALES[self.selection](weights, trace.active), table, ops)
        places = torch.nonzero_static(kept_windows.flatten(), size=remaining).squeeze(1)
        dropped = torch.nonzero_static(~kept_windows.flatten(), size=kept_windows.numel() - remaining).squeeze(1)
        means = windows.permute(0, 2, 3, 1).reshape(-1, channels)
        grid = y.new_zeros(kept_windows.numel(), y.shape[1]).index_copy_(0, places, y)
        passed_on = self.residual_norm(self.residual(select_rows(means, dropped)), ops)
        grid = grid.index_copy_(0, dropped, passed_on.to(y.dtype))
        return grid.view(*kept_windows.shape, y.shape[1]).permute(0, 3, 1, 2), trace

    def _weights(self, windows: Tensor, text: Tensor, ops: Kernels) -> Tensor:
        """The weight of one site in each tile, (B, H', W'), from the means of 2x2 windows (B, C, H/2, W/2)."""
        means = windows if self.tile == 2 else F.avg_pool2d(windows, self.tile // 2, ceil_mode=True)
        batch, channels, height, width = means.shape
        picture = torch.arange(batch, device=means.device).repeat_interleave(height * width)
        scores = self.attention.scores(means.permute(0, 2, 3, 1).reshape(-1, channels), picture, text, ops)
        sizes = self._sizes(2 * windows.shape[2], 2 * windows.shape[3], scores)
        offset = sizes.log() + self.importance.prior().to(sizes.dtype)
        masses = (scores.view(batch, height, width) + offset).flatten(1).softmax(1)
        return masses.view(batch, height, width) / sizes

    def _sizes(self, height: int, width: int, like: Tensor) -> Tensor:
        """How many sites each tile of a picture has, (H', W')."""
        sides = [
            (side - torch.arange(0, side, self.tile, device=like.device)).clamp(max=self.tile).to(like.dtype)
            for side in (height, width)
        ]
        return torch.outer(*sides)


def spread(values: Tensor, tile: int, height: int, width: int) -> Tensor:
    """The values of tiles (B, H', W') at each of their sites, (B, height, width)."""
    return values.repeat_interleave(tile, 1).repeat_interleave(tile, 2)[:, :height, :width]


class TiledStack(SparseStack):
    """MESM's stack with blocks that choose among tiles."""

    block = TiledBlock

    def run_blocks(self, x: Tensor, text: Tensor, ops: Kernels) -> tuple[Tensor, Sequence[Trace]]:
        """See SparseStack."""
        traces = []
        for block in self.blocks:
            x, trace = block(x, text, ops)
            traces.append(trace)
        return x, traces

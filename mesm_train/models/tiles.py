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
from mesm_train.models.kernels.functions import merge_rows, select_rows, window_means
from mesm_train.models.norm import BatchNorm
from mesm_train.models.sparse import ChoosingBlock, SparseStack, all_sites, separate_random_numbers
from mesm_train.models.streams import SiteSelection, Steps


class TiledBlock(ChoosingBlock):
    """Attention over the mean features of tiles, choice of tiles, Conv3x3 BN ReLU twice on them, MaxPool2.

    A tile's weight is shared evenly by its sites; tiles at the lower and right border may have fewer of them.
    """

    importance: Importance

    def __init__(
        self, inputs: int, outputs: int, size: tuple[int, int], text_width: int, settings: SparseSettings, name: str
    ) -> None:
        super().__init__(inputs, outputs, size, text_width, settings, name)
        self.tile = settings.tile
        with separate_random_numbers():
            self.residual = nn.Linear(inputs, outputs, bias=False)
        self.residual_norm = BatchNorm(outputs, eps=settings.bn_eps, momentum=settings.bn_momentum)

    def steps(self, x: Tensor, text: Tensor, ops: Kernels) -> Steps[tuple[Tensor, SiteSelection]]:
        """Choose among the tiles, convolve those that are kept, pool, and pass on the means of the others.

        Args:
            x: (B, C, H, W) in channels_last; H and W even.
            text: (B, text width), the text vector of each picture's utterance.
            ops: the kernels.

        Returns:
            The pooled grid (B, C', H/2, W/2) in channels_last, and the choice.

        Raises:
            NotFiniteError: Of the attention.
        """
        batch, channels, height, width = x.shape
        features, windows = window_means(x)
        active = torch.ones(batch, height, width, dtype=torch.bool, device=x.device)
        with self.grad_for_attention():
            choice = ops.choose(self._tile_scores(windows, text, ops), active, self.current_p(), self.tile)
        if self.training:
            self.importance.watch(x, choice.kept[:, :: self.tile, :: self.tile])
        table = yield from self.table(choice, ops)
        rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
        chosen = rows if len(table.sites) == len(rows) else select_rows(rows, table.sites)
        y = self.convolve(chosen, choice.weights, height * width, table, ops)
        pooled, dropped = table.pooled, table.pooled.other_places
        if dropped is None:
            count = pooled.active.numel()
            dropped = torch.nonzero_static(~pooled.active.flatten(), size=count - len(pooled.places)).squeeze(1)
        means = windows.permute(0, 2, 3, 1).reshape(-1, channels)
        passed_on = self.residual_norm(self.residual(select_rows(means, dropped)), ops)
        grid = merge_rows(y, pooled.places, passed_on.to(y.dtype), dropped)
        selection = SiteSelection(active=active, weights=choice.weights.detach(), kept=choice.kept)
        return grid.view(*pooled.active.shape, y.shape[1]).permute(0, 3, 1, 2), selection

    def _tile_scores(self, windows: Tensor, text: Tensor, ops: Kernels) -> Tensor:
        """The scores of the tiles, (B, H', W'), from the means of 2x2 windows (B, C, H/2, W/2)."""
        means = windows if self.tile == 2 else F.avg_pool2d(windows, self.tile // 2, ceil_mode=True)
        batch, channels, height, width = means.shape
        tiles = all_sites(batch, height, width, means.device)
        return self.scores(means.permute(0, 2, 3, 1).reshape(-1, channels), tiles, text, ops)


class TiledStack(SparseStack):
    """MESM's stack with blocks that choose among tiles."""

    block = TiledBlock

    def run_blocks(self, x: Tensor, text: Tensor, ops: Kernels) -> Steps[tuple[Tensor, Sequence[SiteSelection]]]:
        """See SparseStack."""
        selections = []
        for block in self.blocks:
            assert isinstance(block, TiledBlock)
            x, selection = yield from block.steps(x, text, ops)
            selections.append(selection)
        return x, selections

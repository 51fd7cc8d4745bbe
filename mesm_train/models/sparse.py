"""MESM's text-guided sparse blocks: a choice among sites, and convolutions of what is chosen.

Between the stem and the perceptron everything is rows of active sites: (n, C), in the order of pictures and sites.
tests/models/oracle.py is the same with whole grids and masks, which saves nothing and is plain to see.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mesm_train.models.conv import Stack, Trace
from mesm_train.models.kernels import Kernels, Table
from mesm_train.models.kernels.functions import conv
from mesm_train.models.norm import BatchNorm
from mesm_train.models.selection import SCALES, SiteAttention, nucleus, to_grid
from mesm_train.models.settings import Init, ModelSettings, SparseSettings


def exactly(ops: Kernels, device: torch.device) -> Kernels | None:
    """Kernels by which a picture's choice of sites has the same bits in any batch, if there are, as things are set."""
    possible = not torch.is_grad_enabled() and not torch.is_autocast_enabled(device.type)
    return ops.exactly() if possible else None


class SubmanifoldConv(nn.Module):
    """A 3x3 convolution from active sites to the same active sites, without bias.

    The weight is (9, inputs, outputs), as SparseConvNet has it: tap by tap in the order (y, x).
    """

    def __init__(self, inputs: int, outputs: int, init: Init) -> None:
        """With `init` torch the weight starts as nn.Conv2d's would with the same state of the random numbers."""
        super().__init__()
        if init == "torch":
            weight = nn.Conv2d(inputs, outputs, 3).weight.detach().permute(2, 3, 1, 0).reshape(9, inputs, outputs)
        else:
            weight = torch.empty(9, inputs, outputs).normal_(std=(2 / (9 * inputs)) ** 0.5)
        self.weight = nn.Parameter(weight)

    def forward(self, rows: Tensor, table: Table, ops: Kernels) -> Tensor:
        """(n, inputs) to (n, outputs)."""
        return conv(rows, self.weight, table, ops)


class SparseBlock(nn.Module):
    """Attention, choice of sites, twice submanifold Conv3x3 BN ReLU on them, MaxPool2.

    Batch norms see the kept sites only (SparseConvNet's definitions). A pooled site is active if any of its 4 is kept;
    features are >= 0 after the ReLU, so the maximum over all sites with 0 at the dropped ones is that over the kept.

    With `settings.residual` the sum of a window's dropped sites, over 4, is multiplied by a matrix and added to the
    pooled site, so that a pooled site is active if any of its 4 was.
    """

    def __init__(self, inputs: int, outputs: int, text_width: int, settings: SparseSettings, name: str) -> None:
        """`name` is what errors call it."""
        super().__init__()
        self.p, self.selection, self.tile, self.name = settings.p, settings.selection, settings.tile, name
        self.training_p = self.p
        learns = settings.selection != "published"
        # What a dense block lacks draws from random numbers of its own: MESM and FE2E start from the same weights.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), device="cpu")))
            self.attention = SiteAttention(inputs, text_width, settings.tile)
            self.residual = nn.Linear(inputs, outputs, bias=False) if settings.residual else None
        if learns and settings.init == "torch":
            nn.init.zeros_(self.attention.score.weight)  # even: no site is preferred before anything is known
        self.attention.requires_grad_(learns)  # data parallelism looks for parameters that get no gradient
        self.convs = nn.ModuleList(SubmanifoldConv(i, outputs, settings.init) for i in (inputs, outputs))
        self.norms = nn.ModuleList(
            BatchNorm(outputs, eps=settings.bn_eps, momentum=settings.bn_momentum) for _ in self.convs
        )

    def forward(
        self, rows: Tensor, active: Tensor, places: Tensor, text: Tensor, ops: Kernels
    ) -> tuple[Tensor, Tensor, Tensor, Trace]:
        """
        Args:
            rows: (n, C), the active sites' features.
            active: bool (B, H, W); H and W even.
            places: int64 (n,), where the rows are in it, ascending.
            text: (B, text width), the text vector of each picture's utterance.
            ops: the kernels.

        Returns:
            The pooled rows (m, C'), bool (B, H/2, W/2), the rows' places in it, and the choice.

        Raises:
            ValueError: the attention is not finite.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.selection != "published"):
            weights = self.attention(rows, active, places, text, ops)
        kept = nucleus(weights.detach(), active, self.training_p if self.training else self.p, self.tile)
        pooled = _pooled(kept)
        # The only place where a block waits for the device: sizes must be known here.
        counts = torch.stack([kept.sum(), pooled.sum(), (~torch.isfinite(weights)).sum()]).tolist()
        # Where batch norm waits for other ranks, all of them must get to the end: there it makes the loss nan.
        if counts[2] and self.norms[0].reduce is None:
            raise ValueError(f"{self.name}: the attention over the sites is not finite; the training has diverged")
        table = ops.tables(kept, counts[0], counts[1])
        x = self._chosen(rows, places, table.sites, active)
        scale = SCALES[self.selection](weights, active)
        if scale is not None:
            x = x * scale.flatten().index_select(0, table.sites).unsqueeze(1).to(x.dtype)
        x = self.norms[0](self.convs[0](x, table, ops), ops)
        x = self.norms[1](self.convs[1](x, table, ops), ops, table.pool)
        trace = Trace(active=active, weights=weights.detach(), kept=kept)
        places_of_x = torch.nonzero_static(pooled.flatten(), size=counts[1]).squeeze(1)
        if self.residual is None:
            return x, pooled, places_of_x, trace
        # The stem's grid is full, and so is each that follows.
        means = F.avg_pool2d(to_grid(rows, places, active) * ~kept[:, None], 2).permute(0, 2, 3, 1).flatten(0, 2)
        x = self.residual(means).index_add(0, places_of_x, x)
        return x, torch.ones_like(pooled), torch.arange(len(x), device=x.device), trace

    @staticmethod
    def _chosen(rows: Tensor, places: Tensor, sites: Tensor, active: Tensor) -> Tensor:
        """The rows of the kept sites among the active ones."""
        if len(sites) == len(places):
            return rows
        if len(places) == active.numel():
            return rows.index_select(0, sites)
        return rows.index_select(0, torch.searchsorted(places, sites))


def _pooled(sites: Tensor) -> Tensor:
    """Bool (B, H, W) to (B, H/2, W/2): which 2x2 windows have any site."""
    batch, height, width = sites.shape
    return sites.view(batch, height // 2, 2, width // 2, 2).any(4).any(2)


class SparseStack(Stack):
    """MESM's stack: the dense stem, then a sparse block for each further entry of `channels`."""

    def __init__(
        self, settings: ModelSettings, channels: int, size: tuple[int, int], text_width: int, name: str
    ) -> None:
        """`channels` and `size` are the pictures'; `name` is what errors call the stack."""
        self.text_width, self.name, self.anneal_epochs = text_width, name, settings.sparse.anneal_epochs
        super().__init__(settings, channels, size)

    def make_blocks(self, settings: ModelSettings) -> nn.ModuleList:
        """One sparse block per step of `channels`."""
        steps = enumerate(zip(settings.channels, settings.channels[1:], strict=False), 1)
        return nn.ModuleList(
            SparseBlock(i, o, self.text_width, settings.sparse, f"{self.name}, sparse block {n}") for n, (i, o) in steps
        )

    def forward(self, pictures: Tensor, text: Tensor | None) -> tuple[Tensor, Sequence[Trace]]:
        """(B, channels, H, W) and (B, text width) to (B, dim), and the choices of each block."""
        assert text is not None
        ops = self.kernels(pictures.device)
        if not self.training and len(pictures):
            ops = exactly(ops, pictures.device) or ops
        x = self.stem(pictures, ops)
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        active = torch.ones(batch, height, width, dtype=torch.bool, device=x.device)
        places = torch.arange(active.numel(), device=x.device)
        traces = []
        for block in self.blocks:
            rows, active, places, trace = block(rows, active, places, text, ops)
            traces.append(trace)
        return self.head(to_grid(rows, places, active)), traces

    def set_epoch(self, epoch: float) -> None:
        """Set the share of attention that training keeps: from 1 at epoch 0 evenly to p at `anneal_epochs`.

        Evaluation keeps p from the beginning.
        """
        done = min(1.0, epoch / self.anneal_epochs) if self.anneal_epochs else 1.0
        for block in self.blocks:
            block.training_p = 1 - done * (1 - block.p) if done < 1 else block.p

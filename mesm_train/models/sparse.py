"""MESM's text-guided sparse blocks: a choice among sites, and convolutions of what is chosen.

Between the stem and the perceptron everything is rows of active sites: (n, C), in the order of pictures and sites.
tests/models/oracle.py is the same with whole grids and masks, which saves nothing and is plain to see. tiles.py has the
blocks that choose among squares of sites.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mesm_data.errors import MesmError
from mesm_train.config.model_settings import Init, ModelSettings, SparseSettings
from mesm_train.data.device import HostCopy
from mesm_train.models.importance import Importance
from mesm_train.models.kernels import Kernels, Sites, Table
from mesm_train.models.kernels.choice import Choice
from mesm_train.models.kernels.functions import conv, select_rows
from mesm_train.models.norm import BatchNorm
from mesm_train.models.selection import SCALES, SiteAttention
from mesm_train.models.streams import SiteSelection, Stack, Steps, first


class NotFiniteError(MesmError):
    """The attention over the sites of a sparse block is not finite."""


def batch_invariant_kernels(ops: Kernels, device: torch.device) -> Kernels | None:
    """Kernels with which the choice of sites does not depend on the batch, None if there are none.

    There are none with gradients, under autocast, and on devices but a CPU.
    """
    possible = not torch.is_grad_enabled() and not torch.is_autocast_enabled(device.type)
    return ops.as_batch_invariant() if possible else None


@contextmanager
def separate_random_numbers() -> Iterator[None]:
    """Draw what a dense block lacks from a stream of its own, so that MESM and FE2E start from the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), device="cpu")))
        yield


class SubmanifoldConv(nn.Module):
    """A 3x3 convolution from active sites to the same active sites, without bias.

    The weight is (9, inputs, outputs), as SparseConvNet has it: tap by tap in the order (y, x).
    """

    def __init__(self, inputs: int, outputs: int, init: Init) -> None:
        """With `init` torch the weight starts as nn.Conv2d's does with the same state of the random numbers."""
        super().__init__()
        if init == "torch":
            weight = nn.Conv2d(inputs, outputs, 3).weight.detach().permute(2, 3, 1, 0).reshape(9, inputs, outputs)
        else:
            weight = torch.empty(9, inputs, outputs).normal_(std=(2 / (9 * inputs)) ** 0.5)
        self.weight = nn.Parameter(weight)

    def forward(self, rows: Tensor, table: Table, ops: Kernels) -> Tensor:
        """(n, inputs) to (n, outputs)."""
        return conv(rows, self.weight, table, ops)


class ChoosingBlock(nn.Module):
    """What sparse blocks share: a choice by scores, and twice submanifold Conv3x3 BN ReLU, then MaxPool2.

    The score of a site, or tile, is its text-guided attention plus the logarithm of its place's importance, which
    training measures while p is annealed. Batch norms see the kept sites only (SparseConvNet's definitions).

    Attributes:
        importance: None where it is never measured and no checkpoint has it.
    """

    importance: Importance | None

    def __init__(
        self, inputs: int, outputs: int, size: tuple[int, int], text_width: int, settings: SparseSettings, name: str
    ) -> None:
        """`size` is that of its grid of sites, (height, width); `name` is what errors call the block."""
        super().__init__()
        self.p, self.selection, self.name = settings.p, settings.selection, name
        self.anneal_epochs = settings.anneal_epochs
        self.training_p = self.p
        learns = settings.selection != "published"
        with separate_random_numbers():
            self.attention = SiteAttention(inputs, text_width)
        if learns and settings.init == "torch":
            nn.init.zeros_(self.attention.score.weight)  # even: no site is preferred before anything is known
        self.attention.requires_grad_(learns)  # data parallelism looks for parameters that get no gradient
        self.convs = nn.ModuleList(SubmanifoldConv(i, outputs, settings.init) for i in (inputs, outputs))
        self.norms = nn.ModuleList(
            BatchNorm(outputs, eps=settings.bn_eps, momentum=settings.bn_momentum) for _ in self.convs
        )
        measured = settings.tile > 1 or (learns and settings.anneal_epochs > 0)
        self.importance = Importance(settings.tile, *size) if measured else None

    def set_epoch(self, epoch: float, epochs: float) -> None:
        """Set the share of attention that training keeps: evenly from 1 at epoch 0 to p at `anneal_epochs`.

        p is reached by the middle of the training, of `epochs` in all, so that weights that are to be used with p are
        trained with it. Evaluation keeps p from the beginning. While p is annealed, a choice that learns measures
        importance.
        """
        end = min(self.anneal_epochs, epochs / 2)
        done = min(1.0, epoch / end) if end else 1.0
        self.training_p = 1 - done * (1 - self.p) if done < 1 else self.p
        if self.importance is not None:
            self.importance.learning = self.selection != "published" and self.training_p > self.p

    def current_p(self) -> float:
        """The share of attention that a forward pass keeps."""
        return self.training_p if self.training else self.p

    def scores(self, rows: Tensor, sites: Sites, text: Tensor, ops: Kernels) -> Tensor:
        """The scores of sites or tiles, (B, H, W), from their features; see SiteAttention."""
        scores: Tensor = self.attention(rows, sites, text, ops)
        return scores if self.importance is None else scores + self.importance.prior().to(scores.dtype)

    def grad_for_attention(self) -> torch.set_grad_enabled:
        """A context in which the attention is computed with gradients only if it learns."""
        return torch.set_grad_enabled(torch.is_grad_enabled() and self.selection != "published")

    def table(self, choice: Choice, ops: Kernels, rank: Tensor | None = None) -> Steps[Table]:
        """Of the kept sites: here a block waits for the device, which tells how many they are.

        Raises NotFiniteError.
        """
        counts = HostCopy(choice.counts)
        yield
        kept, pooled, not_finite = counts.wait().tolist()
        # Where batch norm waits for other ranks, all of them must get to the end: there it makes the loss nan.
        if not_finite and self.norms[0].reduce is None:
            raise NotFiniteError(f"{self.name}: the attention over the sites is not finite; the training has diverged")
        return ops.tables(choice.kept, kept, pooled, ends=choice.ends, rank=rank)

    def convolve(self, rows: Tensor, weights: Tensor, site_counts: Tensor | int, table: Table, ops: Kernels) -> Tensor:
        """The kept rows (n, C) to the pooled rows (m, C').

        The kept rows train the attention by their weights (B, H, W), relative to those of an even attention over the
        active sites: `site_counts` is their number, of all pictures or (B, 1, 1).
        """
        if self.selection != "published":
            relative = (weights * site_counts).reshape(-1, 1)
            rows = SCALES[self.selection](rows, select_rows(relative, table.sites))
        rows = self.norms[0](self.convs[0](rows, table, ops), ops)
        pooled: Tensor = self.norms[1](self.convs[1](rows, table, ops), ops, table.pool)
        return pooled


class SparseBlock(ChoosingBlock):
    """The published block: it chooses among single sites, and what it drops is lost.

    A pooled site is active if any of its 4 is kept; features are >= 0 after the ReLU, so the maximum over all sites
    with 0 at the dropped ones is that over the kept.
    """

    def steps(
        self, rows: Tensor, sites: Sites, text: Tensor, ops: Kernels
    ) -> Steps[tuple[Tensor, Sites, SiteSelection]]:
        """Choose among the active sites, convolve those that are kept, and pool.

        Args:
            rows: (n, C), the active sites' features.
            sites: where they are; H and W even.
            text: (B, text width), the text vector of each picture's utterance.
            ops: the kernels.

        Returns:
            The pooled rows (m, C'), where they are in the pooled grids, and the choice.

        Raises:
            NotFiniteError: Of the attention.
        """
        with self.grad_for_attention():
            choice = ops.choose(self.scores(rows, sites, text, ops), sites.active, self.current_p())
        if self.training and self.importance is not None:
            self.importance.watch(rows, choice.kept, sites.places)
        table = yield from self.table(choice, ops, sites.rank)
        site_counts = sites.active.sum((1, 2), keepdim=True)
        x = self.convolve(self._chosen(rows, sites, table), choice.weights, site_counts, table, ops)
        selection = SiteSelection(active=sites.active, weights=choice.weights.detach(), kept=choice.kept)
        return x, table.pooled, selection

    @staticmethod
    def _chosen(rows: Tensor, sites: Sites, table: Table) -> Tensor:
        """The rows of the kept sites among the active ones."""
        if len(table.sites) == len(rows):
            return rows
        if table.sources is not None:
            return select_rows(rows, table.sources)
        return select_rows(rows, table.sites if sites.all_active else torch.searchsorted(sites.places, table.sites))


def all_sites(batch: int, height: int, width: int, device: torch.device) -> Sites:
    """All sites of some pictures."""
    active = torch.ones(batch, height, width, dtype=torch.bool, device=device)
    return Sites(active=active, places=torch.arange(active.numel(), device=device))


class SparseStack(Stack):
    """MESM's stack: the dense stem, then a sparse block for each further entry of `channels`."""

    block: type[ChoosingBlock] = SparseBlock

    def __init__(
        self, settings: ModelSettings, channels: int, size: tuple[int, int], text_width: int, name: str
    ) -> None:
        """`channels` and `size` are the pictures'; `name` is what errors call the stack."""
        self.text_width, self.name = text_width, name
        super().__init__(settings, channels, size)

    def make_blocks(self, settings: ModelSettings) -> nn.ModuleList:
        """One sparse block per step of `channels`."""
        blocks = nn.ModuleList()
        for n, (inputs, outputs) in enumerate(zip(settings.channels, settings.channels[1:], strict=False), 1):
            size, name = (self.size[0] >> n, self.size[1] >> n), f"{self.name}, sparse block {n}"
            blocks.append(self.block(inputs, outputs, size, self.text_width, settings.sparse, name))
        return blocks

    def set_epoch(self, epoch: float, epochs: float) -> None:
        """See ChoosingBlock."""
        for block in self.blocks:
            assert isinstance(block, ChoosingBlock)
            block.set_epoch(epoch, epochs)

    def steps(self, pictures: Tensor, text: Tensor | None) -> Steps[tuple[Tensor, Sequence[SiteSelection]]]:
        """(B, channels, H, W) and (B, text width) to (B, dim), and the choices of each block."""
        assert text is not None
        ops = self.kernels(pictures.device)
        if not self.training and len(pictures):
            ops = batch_invariant_kernels(ops, pictures.device) or ops
        x = first(self.stem(self.pad(pictures, ops), ops, len(pictures)), len(pictures))
        grid, selections = yield from self.run_blocks(x, text, ops)
        return self.head(grid), selections

    def run_blocks(self, x: Tensor, text: Tensor, ops: Kernels) -> Steps[tuple[Tensor, Sequence[SiteSelection]]]:
        """The grid after the stem (B, C, H, W) to that after the last block, and the choices."""
        batch, channels, height, width = x.shape
        rows, sites = x.permute(0, 2, 3, 1).reshape(-1, channels), all_sites(batch, height, width, x.device)
        selections = []
        for block in self.blocks:
            assert isinstance(block, SparseBlock)
            rows, sites, selection = yield from block.steps(rows, sites, text, ops)
            selections.append(selection)
        grid = rows.new_zeros(sites.active.numel(), rows.shape[1]).index_copy(0, sites.places, rows)
        return grid.view(*sites.active.shape, rows.shape[1]).permute(0, 3, 1, 2), selections

"""MESM's text-guided sparse blocks: attention over sites, a choice among them, convolutions of what is chosen.

Between the stem and the perceptron everything is rows of active sites: (n, C), in the order of pictures and sites.
tests/models/oracle.py is the same with whole grids and masks, which saves nothing and is plain to see.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mesm_train.config.model_settings import ModelSettings, SparseSettings
from mesm_train.models.kernels import Kernels, Table
from mesm_train.models.kernels.functions import conv
from mesm_train.models.norm import BatchNorm
from mesm_train.models.streams import Stack, Trace


class SiteAttention(nn.Module):
    """Text-guided attention over the sites of a picture: softmax of w . tanh(W_x site + W_y text) + b."""

    def __init__(self, channels: int, text_width: int) -> None:
        super().__init__()
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
            picture = places // (active.shape[1] * active.shape[2])
            if ops.exact:
                scores = self._exact_scores(rows, picture, text, ops)
            else:
                sites = self.site(rows) + self.text(text).index_select(0, picture)
                scores = self.score(torch.tanh(sites)).squeeze(1)
            grid = scores.new_full((active.numel(),), torch.finfo(scores.dtype).min).index_copy(0, places, scores)
            weights: Tensor = (
                grid.view(active.shape[0], active.shape[1] * active.shape[2]).softmax(1).view(active.shape)
            )
            return weights.masked_fill(~active, 0)

    def _exact_scores(self, rows: Tensor, picture: Tensor, text: Tensor, ops: Kernels) -> Tensor:
        """float64, and the same whatever else is in the batch.

        The product is exact in that; what follows is off by some 1e-16, which with how many rows there are may differ.
        """
        assert self.site.bias is not None
        sites = ops.product(rows.contiguous(), self.site.weight.t().contiguous()).double() + self.site.bias
        guide = text.double() @ self.text.weight.double().t()
        return torch.tanh(sites + guide.index_select(0, picture)) @ self.score.weight[0].double() + self.score.bias


def exactly(ops: Kernels, device: torch.device) -> Kernels | None:
    """Kernels by which a picture's choice of sites has the same bits in any batch, if there are, as things are set."""
    possible = not torch.is_grad_enabled() and not torch.is_autocast_enabled(device.type)
    return ops.exactly() if possible else None


def nucleus(weights: Tensor, active: Tensor, p: float) -> Tensor:
    """The fewest active sites, heaviest first, whose weights reach `p`: bool (B, H, W), for 0 < p <= 1.

    A site is kept while the weights before it sum to less than `p`, so each picture with an active site keeps one at
    least. Equal weights are taken in the order (y, x). At p = 1 all active sites are kept, whatever the rounding.
    """
    if p >= 1:
        return active
    flat, usable = weights.flatten(1), active.flatten(1)
    ordered, order = flat.masked_fill(~usable, -1).sort(dim=1, descending=True, stable=True)
    heavier = nn.functional.pad(ordered.double().cumsum(1)[:, :-1], (1, 0))
    kept = torch.zeros_like(usable).scatter(1, order, heavier < p)
    return (kept & usable).view_as(active)


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


class SubmanifoldConv(nn.Module):
    """A 3x3 convolution from active sites to the same active sites, without bias, from N(0, 2 / (9 inputs)).

    The weight is (9, inputs, outputs), as SparseConvNet has it: tap by tap in the order (y, x).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(9, inputs, outputs))
        nn.init.normal_(self.weight, std=(2 / (9 * inputs)) ** 0.5)

    def forward(self, rows: Tensor, table: Table, ops: Kernels) -> Tensor:
        """(n, inputs) to (n, outputs)."""
        return conv(rows, self.weight, table, ops)


class SparseBlock(nn.Module):
    """Attention, choice of sites, twice submanifold Conv3x3 BN ReLU on them, MaxPool2.

    Batch norms see the active sites only (SparseConvNet's definitions). A pooled site is active if any of its 4 is;
    features are >= 0 after the ReLU, so the maximum over all sites with 0 at the inactive ones is that over the active.
    """

    def __init__(self, inputs: int, outputs: int, text_width: int, settings: SparseSettings, name: str) -> None:
        """`name` is what errors call it."""
        super().__init__()
        self.p, self.selection, self.name = settings.p, settings.selection, name
        self.attention = SiteAttention(inputs, text_width)
        # Said to whoever looks for parameters without a gradient, such as data parallelism.
        self.attention.requires_grad_(settings.selection != "published")
        self.convs = nn.ModuleList(SubmanifoldConv(i, outputs) for i in (inputs, outputs))
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
        kept = nucleus(weights.detach(), active, self.p)
        batch, height, width = kept.shape
        pooled = kept.view(batch, height // 2, 2, width // 2, 2).any(4).any(2)
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
        return x, pooled, torch.nonzero_static(pooled.flatten(), size=counts[1]).squeeze(1), trace

    @staticmethod
    def _chosen(rows: Tensor, places: Tensor, sites: Tensor, active: Tensor) -> Tensor:
        """The rows of the kept sites among the active ones."""
        if len(sites) == len(places):
            return rows
        if len(places) == active.numel():
            return rows.index_select(0, sites)
        return rows.index_select(0, torch.searchsorted(places, sites))


class SparseStack(Stack):
    """MESM's stack: the dense stem, then a sparse block for each further entry of `channels`."""

    def __init__(
        self, settings: ModelSettings, channels: int, size: tuple[int, int], text_width: int, name: str
    ) -> None:
        """`channels` and `size` are the pictures'; `name` is what errors call the stack."""
        self.text_width, self.name = text_width, name
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
        grid = rows.new_zeros(active.numel(), rows.shape[1]).index_copy(0, places, rows)
        return self.head(grid.view(*active.shape, rows.shape[1]).permute(0, 3, 1, 2)), traces

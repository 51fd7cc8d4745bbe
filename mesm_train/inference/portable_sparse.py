"""MESM's sparse blocks on whole grids with masks: the same logits but for rounding, and no operation saved.

`mesm_train.models.sparse` and `tiles` have the blocks that these take their weights from.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mesm_train.models.kernels.choice import spread
from mesm_train.models.norm import BatchNorm
from mesm_train.models.sparse import ChoosingBlock, SparseBlock
from mesm_train.models.streams import Stack
from mesm_train.models.tiles import TiledBlock

# Of a weight of 1: weights that are equal but for rounding are taken in the order of their places. 2**26 counted others
# as equal too and took them in another order than torch: logits of 147 utterances differed by .002 in one model and .05
# in another; with 2**40 by 1e-7 and 5e-4. Times the sites of a grid it must stay below 2**53.
STEPS = 2.0**40


def folded(conv: nn.Conv2d, norm: BatchNorm) -> nn.Conv2d:
    """A convolution followed by a batch norm with running statistics, as one convolution."""
    assert norm.running_mean is not None and norm.running_var is not None  # noqa: PT018
    scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
    before = conv.bias.double() if conv.bias is not None else torch.zeros_like(scale)
    side = conv.kernel_size[0]
    result = nn.Conv2d(conv.in_channels, conv.out_channels, side, padding=side // 2)
    result.weight = nn.Parameter((conv.weight.double() * scale[:, None, None, None]).float(), requires_grad=False)
    bias = (before - norm.running_mean.double()) * scale + norm.bias.double()
    result.bias = nn.Parameter(bias.float(), requires_grad=False)
    return result


class PortableSparseStack(nn.Module):
    """MESM's stack on whole grids with masks."""

    def __init__(self, stem: nn.Module, stack: Stack) -> None:
        super().__init__()
        self.stem, self.head = stem, stack.head
        self.blocks = nn.ModuleList(portable_block(block) for block in stack.blocks)

    def forward(self, pictures: Tensor, guide: Tensor) -> Tensor:
        """(B, channels, H, W) and the text vector (1, width) to (B, dim)."""
        x = self.stem(pictures)
        active = torch.ones_like(x[:, 0])
        for block in self.blocks:
            x, active = block(x, active, guide)
        vectors: Tensor = self.head(x)
        return vectors


def portable_block(block: nn.Module) -> "PortableBlock":
    """The portable form of a sparse block. Raises NotImplementedError if it has none."""
    if isinstance(block, TiledBlock):
        return PortableTiledBlock(block)
    if isinstance(block, SparseBlock):
        return PortableSparseBlock(block)
    raise NotImplementedError(f"its blocks of the kind {type(block).__name__} have no portable form")


class PortableBlock(nn.Module):
    """What portable blocks share: the scores of sites or tiles, and two convolutions of the kept sites."""

    prior: Tensor | None

    def __init__(self, block: ChoosingBlock) -> None:
        super().__init__()
        self.p, self.selection, self.attention = block.p, block.selection, block.attention
        prior = None if block.importance is None else block.importance.prior().double()
        self.register_buffer("prior", prior, persistent=False)
        self.convs = nn.ModuleList()
        for layer, norm in zip(block.convs, block.norms, strict=True):
            weight = layer.weight
            assert isinstance(weight, Tensor) and isinstance(norm, BatchNorm)  # noqa: PT018
            conv = nn.Conv2d(weight.shape[1], weight.shape[2], 3, padding=1, bias=False)
            conv.weight = nn.Parameter(weight.view(3, 3, *weight.shape[1:]).permute(3, 2, 0, 1), requires_grad=False)
            self.convs.append(folded(conv, norm))

    def scores(self, x: Tensor, guide: Tensor) -> Tensor:
        """The scores (B, H, W) of sites or tiles with the features (B, C, H, W).

        In float64, as the exact kernels compute them: the choice of sites hangs on them.
        """
        a = self.attention
        sites = F.linear(x.permute(0, 2, 3, 1).double(), a.site.weight.double(), a.site.bias.double())
        sites = sites + F.linear(guide.double(), a.text.weight.double())[:, None, None]
        scores = F.linear(torch.tanh(sites), a.score.weight.double(), a.score.bias.double()).squeeze(-1)
        return scores if self.prior is None else scores + self.prior

    def convolve(self, x: Tensor, weights: Tensor, active: Tensor, kept: Tensor) -> Tensor:
        """(B, C, H, W) to the pooled features (B, C', H/2, W/2), 0 where no site is kept.

        Args:
            x: the features.
            weights: (B, H, W), the sites' attention.
            active: 1 where a site could be chosen.
            kept: 1 where it is.
        """
        if self.selection == "gate":
            relative = weights * active.sum((1, 2), keepdim=True)
            x = x * (2 * relative / (1 + relative)).to(x.dtype).unsqueeze(1)
        mask = kept.unsqueeze(1)
        x = x * mask
        for conv in self.convs:
            x = conv(x).relu() * mask
        return F.max_pool2d(x, 2)


class PortableSparseBlock(PortableBlock):
    """A sparse block that chooses among single sites; see `mesm_train.models.sparse.SparseBlock`."""

    def forward(self, x: Tensor, active: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W), 0 or 1 (B, H, W) and (1, width) to (B, C', H/2, W/2) and (B, H/2, W/2)."""
        scores = torch.where(active > 0, self.scores(x, guide), -1e30)
        weights = scores.flatten(1).softmax(1).view_as(scores) * active
        kept = nucleus(weights, weights, active, self.p)
        return self.convolve(x, weights, active, kept), F.max_pool2d(kept.unsqueeze(1), 2).squeeze(1)


class PortableTiledBlock(PortableBlock):
    """A sparse block that chooses among tiles; see `mesm_train.models.tiles.TiledBlock`."""

    def __init__(self, block: TiledBlock) -> None:
        super().__init__(block)
        self.tile = block.tile
        weight = block.residual.weight
        residual = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
        residual.weight = nn.Parameter(weight[:, :, None, None], requires_grad=False)
        self.residual = folded(residual, block.residual_norm)

    def forward(self, x: Tensor, active: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W), ones (B, H, W) and (1, width) to (B, C', H/2, W/2) and ones (B, H/2, W/2)."""
        height, width = x.shape[2:]
        windows = F.avg_pool2d(x, 2)
        sizes = self._sums(torch.ones_like(x[:1, :1]), height, width).squeeze(1)  # sites of each tile, (1, H', W')
        tiles = self._sums(x, height, width) / sizes.to(x.dtype).unsqueeze(1)
        scores = self.scores(tiles, guide)
        masses = (scores + sizes.double().log()).flatten(1).softmax(1).view_as(scores)
        weights = masses / sizes
        chosen = nucleus(masses, weights, torch.ones_like(tiles[:, 0]), self.p)
        kept = spread(chosen, self.tile, height, width)
        kept_windows = spread(chosen, self.tile // 2, height // 2, width // 2).unsqueeze(1)
        y = self.convolve(x, spread(weights, self.tile, height, width), active, kept)
        passed_on = self.residual(windows).relu()
        return torch.where(kept_windows > 0, y, passed_on), torch.ones_like(y[:, 0])

    def _sums(self, x: Tensor, height: int, width: int) -> Tensor:
        """The sums of x (B, C, height, width) over tiles, (B, C, H', W'); those at the border may be smaller."""
        padded = F.pad(x, (0, -width % self.tile, 0, -height % self.tile))
        return F.avg_pool2d(padded, self.tile) * self.tile**2


def nucleus(masses: Tensor, order: Tensor, active: Tensor, p: float) -> Tensor:
    """The fewest active sites or tiles whose masses reach p, those with the largest `order` first: 0 or 1 (B, H, W).

    See `mesm_train.models.kernels.choice`.
    """
    if p >= 1:
        return active
    # Equal weights are common (the zeros that fill a piece of sound), and the first of them goes first. ONNX has no
    # stable sort, and another program's rounding may tell equal ones apart: whole numbers that count in the place.
    flat, count = order.flatten(1), order.shape[1] * order.shape[2]
    place = torch.arange(count - 1, -1, -1, dtype=flat.dtype, device=flat.device)
    keys = torch.where(active.flatten(1) > 0, (flat * STEPS).round() * count + place, -1.0)
    places = keys.topk(count, dim=1).indices
    before = F.pad(masses.flatten(1).gather(1, places).cumsum(1)[:, :-1], (1, 0))
    chosen = (before < p).to(active.dtype)
    kept = torch.zeros_like(chosen).scatter(1, places, chosen).view_as(active)
    return kept * active

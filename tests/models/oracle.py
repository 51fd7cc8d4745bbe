"""MESM's text-guided sparse blocks, in the plain form: whole grids with a mask of active sites.

A convolution runs over zeros at the inactive sites and its output is masked to the same active set, which is what a
submanifold convolution computes. Nothing is saved by the sparsity; a form that saves must agree with this one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mesm_train.models.conv import BatchNorm, Stack, Trace
from mesm_train.models.settings import ModelSettings, SparseSettings


class SiteAttention(nn.Module):
    """Text-guided attention over the sites of a picture: softmax of w . tanh(W_x site + W_y text) + b."""

    def __init__(self, channels: int, text_width: int) -> None:
        super().__init__()
        self.site = nn.Linear(channels, channels)
        self.text = nn.Linear(text_width, channels, bias=False)
        self.score = nn.Linear(channels, 1)

    def forward(self, x: Tensor, active: Tensor, text: Tensor) -> Tensor:
        """(B, C, H, W), bool (B, H, W) and (B, text width) to weights (B, H, W), at least float32.

        They sum to 1 over the active sites of a picture and are 0 elsewhere; all 0 if it has none.
        """
        # Not in bfloat16: its 8 bits would leave most of some hundred nearly equal weights tied.
        with torch.autocast(x.device.type, enabled=False):
            dtype = self.score.weight.dtype
            sites = self.site(x.to(dtype).permute(0, 2, 3, 1))
            scores = self.score(torch.tanh(sites + self.text(text.to(dtype))[:, None, None])).squeeze(-1)
            lowest = torch.finfo(dtype).min
            weights: Tensor = scores.masked_fill(~active, lowest).flatten(1).softmax(1).view_as(scores)
        return weights.masked_fill(~active, 0)


def nucleus(weights: Tensor, active: Tensor, p: float) -> Tensor:
    """The fewest active sites, heaviest first, whose weights reach `p`: bool (B, H, W), for 0 < p <= 1.

    A site is kept while the weights before it sum to less than `p`, so each picture with an active site keeps one at
    least. Equal weights are taken in the order (y, x). At p = 1 all active sites are kept, whatever the rounding.
    """
    if p >= 1:
        return active
    flat, usable = weights.flatten(1), active.flatten(1)
    ordered, order = flat.masked_fill(~usable, -1).sort(dim=1, descending=True, stable=True)
    heavier = nn.functional.pad(ordered.cumsum(1)[:, :-1], (1, 0))
    kept = torch.zeros_like(usable).scatter(1, order, heavier < p)
    return (kept & usable).view_as(active)


def scale_published(weights: Tensor, active: Tensor) -> Tensor | None:
    """The published model scales nothing: the choice is hard and the attention is never trained."""
    return None


def scale_gate(weights: Tensor, active: Tensor) -> Tensor | None:
    """Attention relative to an even one, (B, H, W): its mean over a picture's active sites is 1."""
    return weights * active.sum((1, 2), keepdim=True)


def scale_straight(weights: Tensor, active: Tensor) -> Tensor | None:
    """1 in value, the gate in gradient: the published forward pass, with an attention that learns."""
    gate = weights * active.sum((1, 2), keepdim=True)
    return 1 + (gate - gate.detach())


# How the kept sites are scaled by their attention, which is how the attention can learn: (weights, active) to a factor
# for each site, or None. A further way to train the choice is a further entry here.
SCALES = {"published": scale_published, "gate": scale_gate, "straight": scale_straight}


class SparseBlock(nn.Module):
    """Attention, choice of sites, twice submanifold Conv3x3 BN ReLU on them, MaxPool2.

    Convolutions have no bias and start from N(0, 2 / (9 inputs)); batch norms see the active sites only
    (SparseConvNet's definitions). A pooled site is active if any of its 4 is; features are >= 0 after the ReLU and 0
    at inactive sites, so the maximum over all is the one over the active.
    """

    def __init__(self, inputs: int, outputs: int, text_width: int, settings: SparseSettings, name: str) -> None:
        """`name` is what errors call it."""
        super().__init__()
        self.p, self.selection, self.name = settings.p, settings.selection, name
        self.attention = SiteAttention(inputs, text_width)
        self.convs = nn.ModuleList(nn.Conv2d(i, outputs, 3, padding=1, bias=False) for i in (inputs, outputs))
        self.norms = nn.ModuleList(
            BatchNorm(outputs, eps=settings.bn_eps, momentum=settings.bn_momentum) for _ in self.convs
        )
        for weight, i in zip(self.convs.parameters(), (inputs, outputs), strict=True):
            nn.init.normal_(weight, std=(2 / (9 * i)) ** 0.5)

    def forward(self, x: Tensor, active: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Trace]:
        """
        Args:
            x: (B, C, H, W), 0 at inactive sites; H and W even.
            active: bool (B, H, W).
            text: (B, text width), the text vector of each picture's utterance.

        Returns:
            (B, C', H/2, W/2), 0 at inactive sites; bool (B, H/2, W/2); the choice.

        Raises:
            ValueError: the attention is not finite.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.selection != "published"):
            weights = self.attention(x, active, text)
        if not bool(torch.isfinite(weights).all()):
            raise ValueError(f"{self.name}: the attention over the sites is not finite; the training has diverged")
        kept = nucleus(weights.detach(), active, self.p)
        scale = SCALES[self.selection](weights, active)
        x = x * (kept if scale is None else scale.to(x.dtype) * kept).unsqueeze(1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = _on_sites(norm, conv(x), kept)
        pooled = nn.functional.max_pool2d(x, 2)
        pooled_active = nn.functional.max_pool2d(kept.to(x.dtype).unsqueeze(1), 2).squeeze(1) > 0
        return pooled, pooled_active, Trace(active=active, weights=weights.detach(), kept=kept)


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
        x = self.stem(pictures)
        active = torch.ones(len(x), *x.shape[2:], dtype=torch.bool, device=x.device)
        traces = []
        for block in self.blocks:
            x, active, trace = block(x, active, text)
            traces.append(trace)
        return self.head(x), traces


def _on_sites(norm: nn.Module, x: Tensor, sites: Tensor) -> Tensor:
    """BN and ReLU of the rows of x (B, C, H, W) at `sites` (B, H, W), 0 elsewhere."""
    picture = x.permute(0, 2, 3, 1)
    rows = torch.relu(norm(picture[sites]))
    return torch.zeros_like(picture, dtype=rows.dtype).index_put((sites,), rows).permute(0, 3, 1, 2)

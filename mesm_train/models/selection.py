"""Text-guided attention over the sites of a picture, and how it learns. kernels/choice.py chooses sites by it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mesm_train.models.kernels import Kernels, Sites


class SiteAttention(nn.Module):
    """Scores of the sites of a picture, guided by its text: w . tanh(W_x site + W_y text) + b."""

    def __init__(self, channels: int, text_width: int) -> None:
        super().__init__()
        self.site = nn.Linear(channels, channels)
        self.text = nn.Linear(text_width, channels, bias=False)
        self.score = nn.Linear(channels, 1)

    def forward(self, rows: Tensor, sites: Sites, text: Tensor, ops: Kernels) -> Tensor:
        """Scores (B, H, W), at least float32; what is at inactive sites does not count and need not be finite.

        Args:
            rows: (n, C), the active sites.
            sites: where they are.
            text: (B, text width).
            ops: the kernels.
        """
        # Not in bfloat16: its 8 bits would leave most of some hundred nearly equal weights tied.
        with torch.autocast(rows.device.type, enabled=False):
            dtype = self.score.weight.dtype
            text = text.to(dtype)
            if ops.name == "triton" and dtype == torch.float32 and len(rows):
                from mesm_train.models.kernels.card_choice import SiteScores

                scores: Tensor = SiteScores.apply(  # type: ignore[no-untyped-call]
                    rows, self.site.weight, self.site.bias, self.text(text), self.score.weight, self.score.bias, sites
                )
                return scores
            scores = self._of_rows(rows.to(dtype), sites, text, ops)
            if not sites.all_active:
                lowest = torch.finfo(scores.dtype).min
                scores = scores.new_full((sites.active.numel(),), lowest).index_copy(0, sites.places, scores)
            return scores.view(sites.active.shape)

    def _of_rows(self, rows: Tensor, sites: Sites, text: Tensor, ops: Kernels) -> Tensor:
        """Scores (n,) of the rows (n, C) of some sites; text is (B, text width)."""
        if ops.batch_invariant:
            return self._batch_invariant_scores(rows, sites, text, ops)
        scores: Tensor = self.score(torch.tanh(add_to_pictures(self.site(rows), self.text(text), sites))).squeeze(1)
        return scores

    def _batch_invariant_scores(self, rows: Tensor, sites: Sites, text: Tensor, ops: Kernels) -> Tensor:
        """Scores in float64 that do not depend on what else is in the batch.

        The product has the same bits in any batch; what follows may differ by 1e-16 with the number of rows.
        """
        assert self.site.bias is not None
        products = ops.product(rows.contiguous(), self.site.weight.t().contiguous()).double() + self.site.bias
        guided = add_to_pictures(products, text.double() @ self.text.weight.double().t(), sites)
        return torch.tanh(guided) @ self.score.weight[0].double() + self.score.bias


def add_to_pictures(rows: Tensor, values: Tensor, sites: Sites) -> Tensor:
    """The rows (n, C) of some sites plus the values (B, C) of their pictures."""
    batch, height, width = sites.active.shape
    if sites.all_active:
        return (rows.view(batch, height * width, rows.shape[1]) + values.unsqueeze(1)).flatten(0, 1)
    return rows + values.index_select(0, sites.places // (height * width))


def scale_by_gate(rows: Tensor, relative: Tensor) -> Tensor:
    """Rows (n, C) times 2 r / (1 + r), where r (n, 1) is their attention relative to an even one.

    The factor is 1 where the attention is even, and between 0 and 2 everywhere. Without the bound r reaches the number
    of sites, and training by it failed (docs/experiments.md).
    """
    return rows * (2 * relative / (1 + relative)).to(rows.dtype)


class StraightThrough(torch.autograd.Function):
    """Rows (n, C) as they are, which is the published forward pass; the attention gets the gradient of the gate."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, relative: Tensor) -> Tensor:
        """See scale_by_gate."""
        ctx.save_for_backward(rows, relative)
        return rows.view_as(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        """Of the rows and the relative attention: the gate's slope is 2 / (1 + r)^2."""
        rows, relative = ctx.saved_tensors
        effect = (dy * rows).sum(1, keepdim=True, dtype=relative.dtype)
        return dy, 2 * effect / (1 + relative).square()


def pass_straight_through(rows: Tensor, relative: Tensor) -> Tensor:
    """See StraightThrough."""
    passed: Tensor = StraightThrough.apply(rows, relative)  # type: ignore[no-untyped-call]
    return passed


# How the kept rows train the attention where it learns: (rows, relative attention) to rows. A further way to train the
# choice is a further entry here. The published choice is hard: its attention is never trained.
SCALES = {"gate": scale_by_gate, "straight": pass_straight_through}

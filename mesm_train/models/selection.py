"""Text-guided attention over the sites of a picture, and how it learns. kernels/choice.py chooses sites by it."""

import torch
from torch import Tensor, nn

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
            batch, height, width = sites.active.shape
            scores = self._of_rows(rows.to(dtype), sites.places // (height * width), text, ops)
            if not sites.all_active:
                lowest = torch.finfo(scores.dtype).min
                scores = scores.new_full((sites.active.numel(),), lowest).index_copy(0, sites.places, scores)
            return scores.view(batch, height, width)

    def _of_rows(self, rows: Tensor, picture: Tensor, text: Tensor, ops: Kernels) -> Tensor:
        """Scores (n,) of rows (n, C), each of the picture int64 (n,) with the text vectors (B, text width)."""
        if ops.batch_invariant:
            return self._batch_invariant_scores(rows, picture, text, ops)
        sites = self.site(rows) + self.text(text).index_select(0, picture)
        scores: Tensor = self.score(torch.tanh(sites)).squeeze(1)
        return scores

    def _batch_invariant_scores(self, rows: Tensor, picture: Tensor, text: Tensor, ops: Kernels) -> Tensor:
        """Scores in float64 that do not depend on what else is in the batch.

        The product has the same bits in any batch; what follows may differ by 1e-16 with the number of rows.
        """
        assert self.site.bias is not None
        sites = ops.product(rows.contiguous(), self.site.weight.t().contiguous()).double() + self.site.bias
        guide = text.double() @ self.text.weight.double().t()
        return torch.tanh(sites + guide.index_select(0, picture)) @ self.score.weight[0].double() + self.score.bias


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

"""From the vectors of an utterance's faces, or pieces of sound, to its logits."""

import torch
from torch import Tensor, nn

from mesm_train.data.batch import places
from mesm_train.models.settings import ModelSettings


class SequenceBranch(nn.Module):
    """A learned CLS vector before the items, a transformer, the output at CLS to logits.

    The transformer is torch's: post-norm, ReLU. There is no positional encoding: an utterance is a bag of its items.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.randn(settings.dim))
        layer = nn.TransformerEncoderLayer(
            settings.dim, settings.heads, settings.feedforward, settings.dropout, batch_first=True
        )
        # Nested tensors would leave the padding out, on a path of their own in evaluation.
        self.encoder = nn.TransformerEncoder(layer, settings.layers, enable_nested_tensor=False)
        self.out = nn.Linear(settings.dim, settings.classes)

    def forward(self, items: Tensor, counts: Tensor) -> Tensor:
        """Packed items (sum of counts, dim) and int64 counts (N,) to logits (N, classes)."""
        if not len(counts):  # torch's attention cannot; empty rows of the items keep the graph in one piece
            logits: Tensor = self.out(items[:0])
            return logits
        owner, position = places(counts)
        padded = items.new_zeros(len(counts), 1 + int(counts.max()), items.shape[1])
        padded[owner, position + 1] = items
        padded[:, 0] = self.cls.to(items.dtype)
        padding = torch.arange(padded.shape[1], device=items.device) > counts[:, None]
        logits = self.out(self.encoder(padded, src_key_padding_mask=padding)[:, 0])
        return logits

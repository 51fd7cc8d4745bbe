"""From the vectors of an utterance's faces, or pieces of sound, to its logits."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mesm_train.config.model_settings import ModelSettings
from mesm_train.data import device as accelerator
from mesm_train.data.batch import item_positions


def transform(encoder: nn.Module, sequence: Tensor, padding: Tensor) -> Tensor:
    """The output of a transformer (N, L, dim); a function, for torch.compile."""
    output: Tensor = encoder(sequence, src_key_padding_mask=padding)
    return output


class SequenceBranch(nn.Module):
    """A learned CLS vector before the items, a transformer, the output at CLS to logits.

    The transformer is torch's: post-norm, ReLU. There is no positional encoding: an utterance is a bag of its items.

    Attributes:
        transform: `transform`, or what torch.compile made of it, for training.
    """

    transform: Callable[[nn.Module, Tensor, Tensor], Tensor]

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.randn(settings.dim))
        layer = nn.TransformerEncoderLayer(
            settings.dim, settings.heads, settings.feedforward, settings.dropout, batch_first=True
        )
        # Nested tensors would leave the padding out, on a path of their own in evaluation.
        self.encoder = nn.TransformerEncoder(layer, settings.layers, enable_nested_tensor=False)
        self.out = nn.Linear(settings.dim, settings.classes)
        self.transform = transform

    def forward(self, items: Tensor, counts: Tensor) -> Tensor:
        """Packed items (sum of counts, dim) and int64 counts (N,) on the CPU to logits (N, classes)."""
        if not len(counts):  # torch's attention cannot; empty rows of the items keep the graph in one piece
            logits: Tensor = self.out(items[:0])
            return logits
        longest = max(counts.tolist())
        owner, position = item_positions(counts)
        rows = accelerator.to_device(owner * longest + position, items.device)
        padded = items.new_zeros(len(counts) * longest, items.shape[1]).index_copy(0, rows, items)
        first = self.cls.to(items.dtype).expand(len(counts), 1, -1)
        sequence = torch.cat([first, padded.view(len(counts), longest, items.shape[1])], dim=1)
        padding = accelerator.to_device(torch.arange(longest + 1) > counts[:, None], items.device)
        run = self.transform if self.training else transform
        logits = self.out(run(self.encoder, sequence, padding)[:, 0])
        return logits

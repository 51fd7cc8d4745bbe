"""LF-TRANS, the late-fusion transformer of Dai et al. 2021 (their code: lf_transformer)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mesm_train.config.model_settings import ModelSettings
from mesm_train.config.typed_yaml import need
from mesm_train.data import device as accelerator
from mesm_train.models.baselines.two_phase import LateFusion, Parts, Sequence, Sizes, TwoPhaseModel, only_present


class LFTransformer(TwoPhaseModel):
    """Per modality a transformer over its rows and a learned CLS vector, Linear, ReLU, Linear to logits; fused late.

    The transformer is torch's: post-norm, ReLU, no positions. The published code does not mask the padding of texts.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        sizes = settings.two_phase.lf_transformer
        self.branches = nn.ModuleDict()
        for m, heads in zip(("t", "v", "a"), sizes.heads, strict=True):
            if m in settings.modalities:
                width = settings.two_phase.features.dim(m)
                expected = f"numbers that divide the widths of the features; {m} has {width}"
                need(width % heads == 0, "model.two_phase.lf_transformer.heads", sizes.heads, expected)
                self.branches[m] = _Branch(settings, width, heads)
        self.fusion = LateFusion(settings.modalities)

    def logits(self, sequences: Mapping[str, Sequence]) -> tuple[Tensor, dict[str, Tensor]]:
        """See `TwoPhaseModel.logits`."""
        branches = {m: only_present(self.branches[m](sequence), sequence) for m, sequence in sequences.items()}
        return self.fusion(branches), branches

    def fusion_weights(self) -> dict[str, float]:
        """See `TwoPhaseModel.fusion_weights`."""
        return self.fusion.by_modality()

    def macs(self, rows: Sizes) -> Parts:
        """See `TwoPhaseModel.macs`."""
        sizes = self.settings.two_phase.lf_transformer
        parts: Parts = {}
        for m, count in rows.items():
            width, length = self.settings.two_phase.features.dim(m), count + 1
            layer = length * (4 * width**2 + 2 * width * sizes.feedforward) + 2 * length**2 * width
            parts[f"{m}.sequence"] = sizes.layers * layer if count else 0
            parts[f"{m}.head"] = (width * (width // 2) + width // 2 * self.settings.classes) if count else 0
        return parts


class _Branch(nn.Module):
    def __init__(self, settings: ModelSettings, width: int, heads: int) -> None:
        super().__init__()
        sizes = settings.two_phase.lf_transformer
        self.cls = nn.Parameter(torch.randn(width))
        layer = nn.TransformerEncoderLayer(width, heads, sizes.feedforward, sizes.dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, sizes.layers, enable_nested_tensor=False)
        self.out = nn.Sequential(
            nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, settings.classes)
        )  # fmt: skip

    def forward(self, sequence: Sequence) -> Tensor:
        values, counts = sequence.values, sequence.counts
        if not len(counts):  # torch's attention cannot
            logits: Tensor = self.out(values.new_zeros(0, values.shape[2]))
            return logits
        first = self.cls.to(values.dtype).expand(len(counts), 1, -1)
        padding = torch.arange(values.shape[1] + 1) > counts[:, None]
        states = self.encoder(
            torch.cat([first, values], dim=1), src_key_padding_mask=accelerator.to_device(padding, values.device)
        )
        logits = self.out(states[:, 0])
        return logits

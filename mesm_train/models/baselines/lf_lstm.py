"""LF-LSTM, the late-fusion LSTM of Dai et al. 2021 (their code: lf_rnn)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mesm_train.config.model_settings import ModelSettings
from mesm_train.models.baselines.two_phase import (
    FinalStates,
    LateFusion,
    Parts,
    Sequence,
    Sizes,
    TwoPhaseModel,
    only_present,
)


class LFLSTM(TwoPhaseModel):
    """Per modality a bidirectional LSTM, its two final states, Linear, ReLU, Linear to logits; fused late.

    The published code takes for the text the output at the last padded position, which depends on the longest text of
    the batch; here the text is read as the other modalities.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        sizes = settings.two_phase.lf_lstm
        widths = {m: settings.two_phase.features.dim(m) for m in settings.modalities}
        order = ("t", "v", "a")
        hidden = {m: sizes.hidden[order.index(m)] if sizes.hidden else width for m, width in widths.items()}
        self.lstms = nn.ModuleDict(
            {m: FinalStates(widths[m], hidden[m], layers=sizes.layers, dropout=sizes.dropout) for m in widths}
        )
        self.heads = nn.ModuleDict(
            {
                m: nn.Sequential(
                    nn.Dropout(sizes.dropout),
                    nn.Linear(2 * hidden[m], hidden[m]),
                    nn.ReLU(),
                    nn.Linear(hidden[m], settings.classes),
                )
                for m in widths
            }
        )
        self.fusion = LateFusion(settings.modalities)

    def logits(self, sequences: Mapping[str, Sequence]) -> tuple[Tensor, dict[str, Tensor]]:
        """See `TwoPhaseModel.logits`."""
        branches = {
            m: only_present(self.heads[m](torch.flatten(self.lstms[m](sequence), 1)), sequence)
            for m, sequence in sequences.items()
        }
        return self.fusion(branches), branches

    def fusion_weights(self) -> dict[str, float]:
        """See `TwoPhaseModel.fusion_weights`."""
        return self.fusion.by_modality()

    def macs(self, rows: Sizes) -> Parts:
        """See `TwoPhaseModel.macs`."""
        parts: Parts = {}
        for m, count in rows.items():
            lstm = self.lstms[m]
            assert isinstance(lstm, FinalStates)
            parts[f"{m}.sequence"] = lstm.macs(count)
            parts[f"{m}.head"] = (2 * lstm.hidden**2 + lstm.hidden * self.settings.classes) if count else 0
        return parts

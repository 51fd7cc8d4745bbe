"""EmoEmbs: Dai et al., "Modality-Transferable Emotion Embeddings for Low-Resource Multimodal Emotion Recognition".

AACL 2020.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mesm_train.config.model_settings import ModelSettings
from mesm_train.models.baselines.two_phase import FinalStates, Parts, Sequence, Sizes, TwoPhaseModel, only_present


class EmoEmbs(TwoPhaseModel):
    """The logit of a class is the dot product of a modality's state and the class' emotion vector, fused by weights.

    The state is the sum of the two final states of a bidirectional LSTM; the published code takes the output at the
    last padded position. The emotion vectors of the text are fixed word vectors; those of the other modalities are
    learned linear maps of them.
    """

    def __init__(self, settings: ModelSettings, emotions: Tensor) -> None:
        """`emotions`: word vectors of the classes, float (classes, width of the word vectors)."""
        super().__init__(settings)
        sizes, features = settings.two_phase.emo_embs, settings.two_phase.features
        width = emotions.shape[1]
        hidden = {"t": width, **dict(zip(("v", "a"), sizes.hidden, strict=True))}
        self.register_buffer("emotions", emotions.float())
        self.lstms = nn.ModuleDict(
            {
                m: FinalStates(features.dim(m), hidden[m], layers=sizes.layers, dropout=sizes.dropout)
                for m in settings.modalities
            }
        )
        self.maps = nn.ModuleDict({m: nn.Linear(width, hidden[m]) for m in settings.modalities if m != "t"})
        count = len(settings.modalities)
        self.weights = nn.Parameter(torch.full((count,), 1 / count))

    emotions: Tensor

    def logits(self, sequences: Mapping[str, Sequence]) -> tuple[Tensor, dict[str, Tensor]]:
        """See `TwoPhaseModel.logits`."""
        branches = {}
        for m, sequence in sequences.items():
            vectors = self.maps[m](self.emotions) if m in self.maps else self.emotions
            states = self.lstms[m](sequence).sum(dim=1)
            branches[m] = only_present(states @ vectors.to(states.dtype).T, sequence)
        stacked = torch.stack(list(branches.values()), dim=-1)
        return stacked @ self.weights.to(stacked.dtype), branches

    def fusion_weights(self) -> dict[str, float]:
        """See `TwoPhaseModel.fusion_weights`."""
        return dict(zip(self.settings.modalities, self.weights.tolist(), strict=True))

    def macs(self, rows: Sizes) -> Parts:
        """See `TwoPhaseModel.macs`. The maps of the emotion vectors count once for each utterance."""
        classes, width = self.emotions.shape
        parts: Parts = {}
        for m, count in rows.items():
            lstm = self.lstms[m]
            assert isinstance(lstm, FinalStates)
            parts[f"{m}.sequence"] = lstm.macs(count)
            mapped = classes * width * lstm.hidden if m in self.maps else 0
            parts[f"{m}.head"] = (mapped + classes * lstm.hidden) if count else 0
        return parts

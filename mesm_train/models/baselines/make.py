"""The two-phase system that settings ask for."""

from torch import Tensor

from mesm_train.config.model_settings import ModelSettings
from mesm_train.models.baselines.emo_embs import EmoEmbs
from mesm_train.models.baselines.lf_lstm import LFLSTM
from mesm_train.models.baselines.lf_transformer import LFTransformer
from mesm_train.models.baselines.mult import MulT
from mesm_train.models.baselines.two_phase import TwoPhaseModel
from mesm_train.models.fe2e_mesm import Model

AnyModel = Model | TwoPhaseModel


def make_two_phase(settings: ModelSettings, emotions: Tensor | None = None) -> TwoPhaseModel:
    """The model of `settings.kind`, freshly initialised. `emotions`: see `EmoEmbs`, needed by that kind only."""
    if settings.kind == "emo-embs":
        if emotions is None:
            raise ValueError("emo-embs needs the word vectors of its classes")
        return EmoEmbs(settings, emotions)
    kinds: dict[str, type[LFLSTM | LFTransformer | MulT]] = {
        "lf-lstm": LFLSTM, "lf-transformer": LFTransformer, "mult": MulT,
    }  # fmt: skip
    return kinds[settings.kind](settings)

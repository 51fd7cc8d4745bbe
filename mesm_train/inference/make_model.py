"""The model of a run without the weights, which are loaded into it."""

from collections.abc import Mapping

import torch
from torch import nn

from mesm_train.config.model_settings import ModelSettings
from mesm_train.config.two_phase_settings import TWO_PHASE
from mesm_train.inference.encoders import Description, make_faces, make_sound
from mesm_train.models.baselines.make import AnyModel, make_two_phase
from mesm_train.models.fe2e_mesm import Model


def make_model(
    settings: ModelSettings,
    text: nn.Module | None,
    encoders: Mapping[str, Description],
    emotion_width: int | None = None,
) -> AnyModel:
    """The model of the settings with random weights, in evaluation mode on the CPU.

    Args:
        settings: those of the model.
        text: the text encoder; None without one.
        encoders: section (sound, faces) -> the description of its pretrained encoder.
        emotion_width: the width of the word vectors of the classes, which the kind emo-embs has.
    """
    if settings.kind in TWO_PHASE:
        emotions = None if emotion_width is None else torch.zeros(settings.classes, emotion_width)
        return make_two_phase(settings, emotions).eval()
    sound = make_sound(encoders["sound"], settings.dim) if "sound" in encoders else None
    faces = make_faces(encoders["faces"], settings.dim) if "faces" in encoders else None
    return Model(settings, text, sound=sound, faces=faces).eval()

"""Pretrained encoders of sound and faces without their weights: a run's checkpoint has those.

RUN/sound and RUN/faces hold the two files that describe an encoder: the configuration of its model and, if it has one,
of its preprocessor.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mesm_data.errors import InputError, first_line
from mesm_data.storage.json_files import read_json
from mesm_train.config.encoder_settings import EncoderSettings
from mesm_train.config.settings import RunConfig
from mesm_train.models.pretrained import PROCESSOR, PretrainedFaces, PretrainedSound, faces_branch, sound_branch
from mesm_train.models.text import DTYPE, find_encoder

SECTIONS = ("sound", "faces")  # of the settings
CONFIG = "config.json"
Description = dict[str, Any]  # {"config": of the model, "processor": of its preprocessor, {} if it has none}


def encoder_settings(config: RunConfig) -> dict[str, EncoderSettings]:
    """Section -> the settings of the pretrained encoder, of those sections that have one."""
    sections = {"sound": config.sound, "faces": config.faces}
    return {section: settings for section, settings in sections.items() if settings.encoder is not None}


def copy_descriptions(config: RunConfig, run: Path) -> None:
    """Copy what describes the pretrained encoders to RUN/sound and RUN/faces."""
    for section, settings in encoder_settings(config).items():
        assert settings.encoder is not None
        source = find_encoder(settings.encoder, settings.revision, f"{section}.encoder")
        (run / section).mkdir(parents=True, exist_ok=True)
        for name in (CONFIG, PROCESSOR):
            if (source / name).exists():
                shutil.copyfile(source / name, run / section / name)


def read_descriptions(config: RunConfig, run: Path) -> dict[str, Description]:
    """Section -> description, from the folder of a run.

    Runs of earlier versions have none: then the encoder itself must be at hand.

    Raises:
        InputError: the encoder is neither described in the run nor at hand, or the files are damaged.
    """
    descriptions = {}
    for section, settings in encoder_settings(config).items():
        folder = run / section
        if not (folder / CONFIG).exists():
            assert settings.encoder is not None
            try:
                folder = find_encoder(settings.encoder, settings.revision, f"{section}.encoder")
            except InputError as error:
                raise InputError(
                    f"an earlier version of mesm trained {run}, without the description of its encoder in "
                    f"{section}/{CONFIG}. The encoder must be at hand: {error}"
                ) from None
        files = (folder / CONFIG, folder / PROCESSOR)
        config_content, processor = (read_json(path) if path.exists() else {} for path in files)
        if not isinstance(config_content, dict) or not isinstance(processor, dict):
            raise InputError(f"{folder} does not describe an encoder: {CONFIG} or {PROCESSOR} is no JSON object")
        config_content.pop("_name_or_path", None)  # a folder of the machine that trained it
        descriptions[section] = {"config": config_content, "processor": processor}
    return descriptions


def make_sound(description: Description, dim: int) -> PretrainedSound:
    """The branch of sound with random weights. Raises InputError if the description is of no speech model."""
    try:
        return sound_branch(_make_encoder(description["config"]), description["processor"], dim, lr_factor=0)
    except Exception as error:  # what transformers raises depends on what is wrong in the configuration
        raise InputError(f"the encoder of sound is described as no speech model: {first_line(error)}") from None


def make_faces(description: Description, dim: int) -> PretrainedFaces:
    """The branch of faces with random weights. Raises InputError if the description is of no image model."""
    try:
        return faces_branch(_make_encoder(description["config"]), description["processor"], dim, lr_factor=0)
    except Exception as error:  # likewise
        raise InputError(f"the encoder of faces is described as no image model: {first_line(error)}") from None


def _make_encoder(config: Mapping[str, Any]) -> Any:
    """The model of a configuration of transformers, with random weights."""
    from transformers import AutoConfig, AutoModel

    with torch.random.fork_rng(devices=[]):
        settings = AutoConfig.for_model(**config)
        return AutoModel.from_config(settings, trust_remote_code=False, dtype=DTYPE)


def as_json(config: Any) -> Description:
    """The configuration of a model of transformers as a mapping, without the folder that it was loaded from."""
    content: Description = json.loads(config.to_json_string(use_diff=False))
    content.pop("_name_or_path", None)
    return content

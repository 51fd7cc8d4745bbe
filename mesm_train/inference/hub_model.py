"""The layout of the Hugging Face Hub: model.safetensors, config.json, README.md, and text/ with the tokenizer.

config.json holds what `HubModel` is made of, so `HubModel.from_pretrained(folder_or_id)` of huggingface_hub works;
`mesm_train.load(folder_or_id)` adds the tokenizer and predicts clips. A folder needs no network.
"""

import io
import json
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from mesm_data.errors import InputError, MesmError, first_line
from mesm_data.storage.json_shapes import NUMBER, read_checked_json
from mesm_train.config.settings import RunConfig
from mesm_train.config.typed_yaml import parse
from mesm_train.data.batch import Batch
from mesm_train.data.input_spec import InputSpec, parse_input_spec
from mesm_train.inference.calibration import OutputCalibration
from mesm_train.inference.clip_features import open_clip_features
from mesm_train.inference.encoders import as_json
from mesm_train.inference.make_model import make_model
from mesm_train.inference.model_card import model_card
from mesm_train.inference.new_folder import new_folder
from mesm_train.inference.predictor import Predictor
from mesm_train.models.fe2e_mesm import ForwardDetails
from mesm_train.models.hub import fetch_from_hub
from mesm_train.models.text import DTYPE, LOCAL, with_fast_gelu
from mesm_train.training.run_files import PROVENANCE

FILES = ("config.json", "model.safetensors", "text/*", "README.md")
_SHAPE = {
    "run": {},
    "spec": {},
    "calibration": {"thresholds": [NUMBER], "scale": [NUMBER], "offset": [NUMBER]},
    "provenance": PROVENANCE,
}


class HubModel(nn.Module, PyTorchModelHubMixin, library_name="mesm", tags=["emotion-recognition", "multimodal"]):
    """A model of mesm as the Hub stores it. Takes a `Batch`; for clips see `mesm_train.load`."""

    def __init__(
        self,
        run: dict[str, Any],
        spec: dict[str, Any],
        calibration: dict[str, list[float]],
        provenance: dict[str, Any],
        text_config: dict[str, Any] | None = None,
        encoders: dict[str, dict[str, Any]] | None = None,
        emotion_width: int | None = None,
    ) -> None:
        """Build the model; the Hub's mixin loads its weights.

        Args:
            run: the settings of the run.
            spec: `InputSpec` as a mapping.
            calibration: `OutputCalibration` as a mapping.
            provenance: of the run.
            text_config: the configuration of the text encoder, of transformers; None without text.
            encoders: section (sound, faces) -> the description of its pretrained encoder.
            emotion_width: the width of the word vectors of the classes, of emo-embs.
        """
        super().__init__()
        self.config = parse(RunConfig, json.dumps(run).encode(), "config.json: run")
        self.spec = parse_input_spec(spec, "config.json: spec")
        self.calibration = OutputCalibration.parse(calibration, len(self.spec.outputs))
        self.provenance, self.encoders = provenance, encoders or {}
        self.model = make_model(self.config.model, _text_encoder(text_config), self.encoders, emotion_width)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits float32 (N, classes)."""
        logits: torch.Tensor = self.model(batch)
        return logits

    def forward_details(self, batch: Batch) -> ForwardDetails:
        """The forward pass with its inside."""
        return self.model.forward_details(batch)


def _text_encoder(config: Mapping[str, Any] | None) -> nn.Module | None:
    """A text encoder with random weights: those of the checkpoint are loaded into it."""
    if config is None:
        return None
    from transformers import AutoConfig, AutoModel

    with torch.random.fork_rng(devices=[]):
        settings = with_fast_gelu(AutoConfig.for_model(**config))
        encoder: nn.Module = AutoModel.from_config(settings, dtype=DTYPE)
    return encoder


def export_hub_folder(predictor: Predictor, run: Path | None, out: Path) -> None:
    """Write a model for the Hub.

    Args:
        predictor: the model.
        run: the folder of its run, from which the card has its scores; None: there is none.
        out: a new or an empty folder.
    """
    config, emotions = encoder_config(predictor), getattr(predictor.model, "emotions", None)
    model = HubModel(
        run=dict(predictor.facts["config"]),
        spec=_plain(predictor.spec),
        calibration=_plain(predictor.calibration),
        provenance=dict(predictor.facts),
        text_config=None if config is None else as_json(config),
        encoders=dict(predictor.encoders),
        emotion_width=None if emotions is None else emotions.shape[1],
    )
    model.model.load_state_dict(predictor.model.state_dict())
    with new_folder(out) as folder:
        (folder / "README.md").write_text(model_card(predictor, run), encoding="utf-8")
        model.save_pretrained(folder)
        save_tokenizer(predictor, folder / "text")


def save_tokenizer(predictor: Predictor, folder: Path) -> None:
    """Write the tokenizer (tokenizer.json of the library tokenizers, among others) and the encoder's configuration."""
    if predictor.tokenizer is not None:
        predictor.tokenizer.save_pretrained(folder)
        encoder_config(predictor).save_pretrained(folder)


def encoder_config(predictor: Predictor) -> Any:
    """The configuration of the text encoder, of transformers; None without text."""
    return None if predictor.model.text is None else predictor.model.text.encoder.config


def load_hub_folder(folder: Path, glove: Path | None = None) -> Predictor:
    """The model in an exported folder; `glove` as in `load`.

    Raises InputError or MesmError if it is none, or damaged.
    """
    content = read_checked_json(folder / "config.json", _SHAPE)
    try:
        with redirect_stdout(io.StringIO()):  # huggingface_hub prints a line, and stdout is for predictions
            loaded = HubModel.from_pretrained(folder, local_files_only=True, strict=True)
    except MesmError:
        raise
    except Exception as error:  # what safetensors and transformers raise depends on where a file is damaged
        raise MesmError(f"{folder} does not load as a model of mesm: {first_line(error)}") from error
    tokenizer = None
    if loaded.model.text is not None:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder / "text", **LOCAL)
        except Exception as error:
            raise MesmError(f"{folder / 'text'} does not load as a tokenizer: {first_line(error)}") from error
    return Predictor(
        name=loaded.config.name,
        model=loaded.model.eval(),
        spec=loaded.spec,
        calibration=loaded.calibration,
        tokenizer=tokenizer,
        max_tokens=loaded.config.text.max_tokens,
        facts=content["provenance"],
        encoders=loaded.encoders,
        features=open_clip_features(loaded.spec.features, glove),
    )


def fetch_hub_folder(name: str) -> Path:
    """The folder of a model of the Hub, from its cache where it is there. Raises InputError if it cannot be had."""
    try:
        return fetch_from_hub(name, None, FILES)
    except InputError as error:
        raise InputError(
            f"{name!r} is no folder with a run or an exported model, and cannot be fetched from the Hugging Face Hub: "
            f"{error}"
        ) from error


def _plain(value: InputSpec | OutputCalibration) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(asdict(value)))
    return content

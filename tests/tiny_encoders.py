"""Tiny random encoders in the layout of published ones: no network, no download."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from mesm_train.config.model_settings import TextSettings
from mesm_train.models.tiny_text import make_tiny

SPEECH: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "conv_dim": (8, 8, 8, 8, 8, 8, 8), "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
IMAGE: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 48,
    "patch_size": 16,
}  # fmt: skip


def speech(folder: Path, kind: str = "WavLM", **changes: object) -> Path:
    """A speech model with the geometry of the published ones: a frame of 400 samples every 320."""
    config = getattr(transformers, f"{kind}Config")(**{**SPEECH, **changes})
    torch.manual_seed(0)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def image(folder: Path, kind: str = "ViT") -> Path:
    """An image model for crops of 48 pixels; CLIP with its text model."""
    torch.manual_seed(0)
    if kind == "CLIP":
        text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=IMAGE)).save_pretrained(folder)
    else:
        transformers.ViTModel(transformers.ViTConfig(**IMAGE)).save_pretrained(folder)
    mean, deviation = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": deviation}))
    return folder


def roberta(folder: Path, texts: list[str]) -> Path:
    """A RoBERTa, with the tokenizer of the tiny encoder."""
    make_tiny(texts, folder, 0, TextSettings(encoder="tiny"))
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    config = transformers.RobertaConfig(
        vocab_size=vocabulary, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=130, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.RobertaModel(config).save_pretrained(folder)
    return folder

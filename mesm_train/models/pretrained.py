"""Pretrained encoders of transformers in place of the convolutional stacks: of the wave, and of face crops.

They make the vector of a piece of sound (0.4 s) or of a face, as the stacks do; the transformer over these vectors and
the late fusion stay. Each utterance's sound is encoded alone: encoders with group norm (wav2vec 2.0, HuBERT and WavLM
of base size) depend on padding, which their attention masks do not undo.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mesm_data.errors import InputError, first_line
from mesm_train.config.encoder_settings import EncoderSettings
from mesm_train.data import device as accelerator
from mesm_train.data.mel import COLUMNS, HOP, SAMPLE_RATE, count_pieces
from mesm_train.models import text

PIECE = COLUMNS * HOP  # samples
CONTEXT = 80  # zeros behind the last piece, so that its last frame (400 samples, every 320) is whole
PROCESSOR = "preprocessor_config.json"


class Pretrained(nn.Module):
    """An encoder, trained or frozen, and a linear layer to the vectors that the sequence transformer reads."""

    def __init__(self, encoder: nn.Module, width: int, dim: int, *, lr_factor: float) -> None:
        """`lr_factor`: the encoder learns at the learning rate times this; 0: it is frozen."""
        super().__init__()
        self.encoder, self.lr_factor, self.frozen = encoder, lr_factor, lr_factor == 0
        self.out = nn.Linear(width, dim)
        if self.frozen:
            encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Pretrained":
        """As usual, but a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


class PretrainedSound(Pretrained):
    """Packed samples to vectors of pieces: the mean over the encoder's frames whose middle lies in the piece."""

    def __init__(self, encoder: nn.Module, width: int, dim: int, *, lr_factor: float, normalise: bool) -> None:
        """`normalise`: each utterance's wave to mean 0 and variance 1, as the encoder was trained."""
        super().__init__(encoder, width, dim, lr_factor=lr_factor)
        self._normalise = normalise
        config: Any = encoder.config
        self._stride, self._field = frame_geometry(config.conv_kernel, config.conv_stride)

    def forward(self, samples: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """int16 (S,) and int64 (N,) on the CPU to vectors (P, dim) and pieces of each utterance, int64 (N,)."""
        encoded, pieces = self.encode(samples, counts)
        return self.out(encoded), pieces

    def encode(self, samples: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The same before the linear layer: vectors (P, width)."""
        pieces = count_pieces(counts)
        waves = torch.split(samples.to(self.out.weight.dtype) / 32768, counts.tolist())
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            vectors = [self._pieces(wave, count) for wave, count in zip(waves, pieces.tolist(), strict=True) if count]
        return torch.cat(vectors) if vectors else self.out.weight.new_zeros(0, self.out.in_features), pieces

    def _pieces(self, wave: Tensor, count: int) -> Tensor:
        """The vectors (count, width) of one utterance."""
        if self._normalise:
            wave = (wave - wave.mean()) / torch.sqrt(wave.var(correction=0) + 1e-7)
        padded = nn.functional.pad(wave, (0, count * PIECE + CONTEXT - len(wave)))
        frames: Tensor = self.encoder(padded[None]).last_hidden_state[0]
        middle = torch.arange(len(frames)) * self._stride + self._field // 2
        owner = accelerator.to_device((middle // PIECE).clamp(max=count - 1), frames.device)
        total = frames.new_zeros(count, frames.shape[1]).index_add(0, owner, frames)
        return total / torch.bincount(owner, minlength=count)[:, None]


class PretrainedFaces(Pretrained):
    """Face crops to vectors: the encoder's pooled output, or its first token where it has none."""

    def __init__(
        self, encoder: nn.Module, width: int, dim: int, *, lr_factor: float, size: int, mean: Tensor, deviation: Tensor
    ) -> None:
        """`size`: pixels of a crop; `mean`, `deviation`: of red, green and blue (0 to 255), as it was trained."""
        super().__init__(encoder, width, dim, lr_factor=lr_factor)
        self.size = size
        self.register_buffer("mean", mean.view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", deviation.view(3, 1, 1), persistent=False)

    mean: Tensor
    deviation: Tensor

    def forward(self, faces: Tensor) -> Tensor:
        """uint8 (F, size, size, 3) to vectors (F, dim)."""
        vectors: Tensor = self.out(self.encode(faces))
        return vectors

    def encode(self, faces: Tensor) -> Tensor:
        """The same before the linear layer: vectors (F, width)."""
        if not len(faces):
            return self.out.weight.new_zeros(0, self.out.in_features)
        pixels = (faces.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.deviation
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return pooled(self.encoder(pixel_values=pixels))


def pooled(output: Any) -> Tensor:
    """The vector of each picture, (F, width), from what an image model of transformers returns."""
    pooler = getattr(output, "pooler_output", None)
    if pooler is None:
        states: Tensor = output.last_hidden_state
        return states[:, 0] if states.ndim == 3 else states.mean(dim=(2, 3))
    return torch.flatten(pooler, 1)


def frame_geometry(kernels: list[int], strides: list[int]) -> tuple[int, int]:
    """Samples between two frames of a speech encoder's convolutions, and samples that a frame sees."""
    stride, field = 1, 1
    for kernel, step in zip(kernels, strides, strict=True):
        field += (kernel - 1) * stride
        stride *= step
    return stride, field


def load_sound(settings: EncoderSettings, dim: int) -> PretrainedSound:
    """The speech encoder of the settings. Raises InputError if it is none, or cannot be loaded."""
    encoder, processor = _load(settings, "sound")
    try:
        return sound_branch(encoder, processor, dim, lr_factor=settings.lr_factor)
    except Exception as error:  # of a model that is not one of speech
        raise InputError(f"sound.encoder {settings.encoder!r} is no speech model: {first_line(error)}") from None


def load_faces(settings: EncoderSettings, dim: int) -> PretrainedFaces:
    """The image encoder of the settings. Raises InputError if it is none, or cannot be loaded."""
    encoder, processor = _load(settings, "faces")
    try:
        return faces_branch(encoder, processor, dim, lr_factor=settings.lr_factor)
    except Exception as error:  # of a model that is not one of images
        raise InputError(f"faces.encoder {settings.encoder!r} is no image model: {first_line(error)}") from None


@torch.no_grad()
def sound_branch(encoder: Any, processor: Mapping[str, Any], dim: int, *, lr_factor: float) -> PretrainedSound:
    """The branch of sound with a speech model of transformers.

    Args:
        encoder: the model.
        processor: the content of preprocessor_config.json; empty without one.
        dim: the width of the vectors that the branch makes.
        lr_factor: see `Pretrained`.

    Raises:
        Exception: of any kind, if it is no speech model.
    """
    if processor.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise ValueError(f"it takes sound of {processor['sampling_rate']} Hz, shards have {SAMPLE_RATE} Hz")
    states = encoder.eval()(torch.zeros(1, PIECE + CONTEXT)).last_hidden_state
    if states.ndim != 3:
        raise ValueError("it does not give one vector a frame")
    normalise = bool(processor.get("do_normalize"))
    return PretrainedSound(encoder.train(), states.shape[2], dim, lr_factor=lr_factor, normalise=normalise)


@torch.no_grad()
def faces_branch(encoder: Any, processor: Mapping[str, Any], dim: int, *, lr_factor: float) -> PretrainedFaces:
    """The branch of faces with an image model of transformers; arguments and errors as of `sound_branch`."""
    encoder = getattr(encoder, "vision_model", encoder)  # CLIP, SigLIP: models of texts and images
    size = int(encoder.config.image_size)
    width = pooled(encoder.eval()(pixel_values=torch.zeros(1, 3, size, size))).shape[1]
    mean, deviation = (
        torch.tensor(processor.get(name, [0.5] * 3), dtype=torch.float32) * 255 for name in ("image_mean", "image_std")
    )
    return PretrainedFaces(encoder.train(), width, dim, lr_factor=lr_factor, size=size, mean=mean, deviation=deviation)


def _load(settings: EncoderSettings, section: str) -> tuple[Any, dict[str, Any]]:
    """The model and the content of preprocessor_config.json."""
    assert settings.encoder is not None
    folder = text.find_encoder(settings.encoder, settings.revision, f"{section}.encoder")
    from transformers import AutoConfig, AutoModel, logging

    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, **text.LOCAL)
        # SpecAugment refuses sound of less than 10 frames, and would come on top of `augment`.
        for name, value in (("apply_spec_augment", False), ("layerdrop", 0.0)):
            if hasattr(config, name):
                setattr(config, name, value)
        encoder, loaded = AutoModel.from_pretrained(
            folder, config=config, use_safetensors=True, dtype=text.DTYPE, output_loading_info=True, **text.LOCAL
        )
        file = folder / PROCESSOR
        processor = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except Exception as error:  # what transformers raises depends on where a file is damaged
        raise InputError(
            f"{section}.encoder {settings.encoder!r} does not load: {first_line(error)}. It must hold config.json and "
            f"model.safetensors, and {PROCESSOR} where its input is normalised"
        ) from error
    missing = _random_weights(encoder, loaded["missing_keys"])
    if missing and settings.lr_factor == 0:
        raise InputError(
            f"{section}.encoder {settings.encoder!r} lacks weights ({', '.join(missing[:3])}): what it computes would "
            f"be random. Take a model that has them; or train it, with {section}.lr_factor above 0"
        )
    return encoder, processor


def _random_weights(encoder: Any, missing: Iterable[str]) -> list[str]:
    """Of the weights that the files lack: without those of a text model, and of what masks inputs in pretraining."""
    prefix = "vision_model." if hasattr(encoder, "vision_model") else ""
    return sorted(name for name in missing if name.startswith(prefix) and "mask" not in name)

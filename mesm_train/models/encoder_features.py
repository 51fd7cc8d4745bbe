"""Hidden states of a frozen pretrained encoder as a feature set: computed once instead of in each epoch."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError, first_line
from mesm_data.features.base import Description, Extract, Extractor, Features
from mesm_train.config.encoder_settings import EncoderSettings
from mesm_train.config.model_settings import TextSettings
from mesm_train.data.mel import SAMPLE_RATE
from mesm_train.data.tokenizer import tokenize
from mesm_train.models import text
from mesm_train.models.pretrained import PIECE, PretrainedFaces, PretrainedSound, load_faces, load_sound


@dataclass(frozen=True)
class EncoderFeatures(Extractor):
    """Hidden states of a model of transformers; `encoder`: a model of the Hub, or a folder that holds one.

    Of a speech model one row per piece of sound (0.4 s): the mean over its frames. Of an image model one row per face
    crop. Of a text model one row per token.
    """

    encoder: str
    revision: str | None = None
    kind = "encoder"
    parallel = False  # torch uses the cores

    def describe(self) -> Description:
        """Raises InputError if the model cannot be loaded, or is of another kind."""
        place = text.find_encoder(self.encoder, self.revision, "--from")
        facts = text.encoder_provenance(place, Path(self.encoder).name, self.revision)
        return Description(
            columns=tuple(f"{self.branch}_{number}" for number in range(self._width())),
            hop=PIECE / SAMPLE_RATE if self.branch == "sound" else None,
            licence=f"Computed by {facts['encoder']}: the terms of that model and of the corpus hold",
            config={**facts, "branch": self.branch},
        )

    def open(self, folder: Path) -> Extract:
        """The model, in evaluation mode."""
        return {"sound": self._sound, "faces": self._faces, "text": self._text}[self.branch]()

    @cached_property
    def branch(self) -> str:
        """sound, faces or text: what the model reads."""
        from transformers import AutoConfig

        place = text.find_encoder(self.encoder, self.revision, "--from")
        try:
            config = AutoConfig.from_pretrained(place, **text.LOCAL)
        except Exception as error:  # what transformers raises depends on where a file is damaged
            raise InputError(f"--from {self.encoder} holds no model: {first_line(error)}") from None
        if hasattr(config, "conv_kernel"):
            return "sound"
        return "faces" if hasattr(config, "image_size") or hasattr(config, "vision_config") else "text"

    @cached_property
    def _loaded(self) -> Any:
        settings = EncoderSettings(encoder=self.encoder, revision=self.revision, lr_factor=0)
        if self.branch == "text":
            return text.load(TextSettings(encoder=self.encoder, revision=self.revision))
        return load_sound(settings, 1).eval() if self.branch == "sound" else load_faces(settings, 1).eval()

    def _width(self) -> int:
        return int(self._loaded[1].config.hidden_size if self.branch == "text" else self._loaded.out.in_features)

    def _sound(self) -> Extract:
        branch: PretrainedSound = self._loaded

        @torch.no_grad()
        def extract(dataset: Dataset, key: str) -> Features:
            samples = torch.from_numpy(dataset[key].samples.copy())
            values, counts = branch.encode(samples, torch.tensor([len(samples)]))
            times = np.asarray(np.arange(int(counts[0])) * (PIECE / SAMPLE_RATE), np.float64)
            return Features(values=values.numpy(), times=times)

        return extract

    def _faces(self) -> Extract:
        branch: PretrainedFaces = self._loaded

        @torch.no_grad()
        def extract(dataset: Dataset, key: str) -> Features:
            sample = dataset[key]
            if len(sample.faces) and sample.faces.shape[1] != branch.size:
                size = sample.faces.shape[1]
                raise InputError(
                    f"{dataset.path} holds faces of {size} pixels, {self.encoder} takes {branch.size}: build it with "
                    f"--face-size {branch.size}"
                )
            times = np.array(sample.record["faces"]["times"], np.float64)
            return Features(values=branch.encode(torch.from_numpy(sample.faces.copy())).numpy(), times=times)

        return extract

    def _text(self) -> Extract:
        tokenizer, encoder = self._loaded
        encoder.eval()

        @torch.no_grad()
        def extract(dataset: Dataset, key: str) -> Features:
            tokens, counts = tokenize(tokenizer, [dataset[key].text], TextSettings().max_tokens)
            if not int(counts[0]):
                return Features(values=np.zeros((0, self._width()), np.float32), times=None)
            states = encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0]
            return Features(values=states.float().numpy(), times=None)

        return extract

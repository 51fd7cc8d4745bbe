"""Words and their times from the sound alone, by a Whisper model that the user has on disk."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError, first_line
from mesm_data.schema.recordings import Word

RATE = 16_000


class Whisper:
    """A Whisper model of transformers in a folder (config.json, model.safetensors, tokenizer, generation_config.json).

    Nothing is downloaded. Times of words need the alignment heads that the published models name in
    generation_config.json.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Raises InputError if the folder holds no such model."""
        if not (folder / "config.json").is_file():
            raise InputError(f"--whisper {folder}: expected a folder with config.json and model.safetensors of Whisper")
        from transformers import AutoConfig, AutoModelForSpeechSeq2Seq, AutoProcessor, logging, pipeline

        logging.disable_progress_bar()
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            kind = AutoConfig.from_pretrained(folder, **local).model_type
            if kind != "whisper":
                raise ValueError(f"it is a model of the type {kind}.")
            processor: Any = AutoProcessor.from_pretrained(folder, **local)
            model = AutoModelForSpeechSeq2Seq.from_pretrained(folder, use_safetensors=True, **local)
        except Exception as error:  # what transformers raises depends on where a file is damaged
            raise InputError(f"--whisper {folder} does not load: {first_line(error)}") from error
        self._folder = folder
        self._recognise: Any = pipeline(
            "automatic-speech-recognition",
            model=model,
            tokenizer=processor.tokenizer,
            feature_extractor=processor.feature_extractor,
            device=device,
        )

    def words(self, samples: NDArray[np.int16]) -> tuple[Word, ...]:
        """The words that are heard in int16 (n,) at 16 kHz, with their times. Raises InputError if it has no times."""
        sound = {"raw": samples.astype(np.float32) / 32768, "sampling_rate": RATE}
        try:
            transcript = self._recognise(sound, return_timestamps="word")
        except (ValueError, AttributeError) as error:
            raise InputError(f"--whisper {self._folder} gives no times of words: {first_line(error)}") from error
        return tuple(_word(chunk, len(samples) / RATE) for chunk in transcript["chunks"] if chunk["text"].strip())


def _word(chunk: dict[str, Any], length: float) -> Word:
    """One word of the pipeline's answer; the last may have no end."""
    start, end = chunk["timestamp"]
    return Word(word=chunk["text"].strip(), start=float(start), end=float(length if end is None else end))

"""What the synthetic corpora share between the plan of a recording and its files: speech that fits, wavs, texts."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from mesm_data.synthetic.speech import RATE, Span, Speech, Synthesiser, Voice
from mesm_data.synthetic.text import spoken

ROOM = 0.0005  # standard deviation of a quiet room's noise, -66 dB of full scale


def say(synthesiser: Synthesiser, text: str, voice: Voice, room: float) -> Speech:
    """The speech of a transcript's `text`, faster than `voice` where it would be longer than `room` seconds."""
    words = " ".join(said for _, said in spoken(text))
    said = synthesiser.say(words, voice)
    while said.duration > room:
        voice = replace(voice, rate=ceil(voice.rate * max(1.02, said.duration / room)))
        said = synthesiser.say(words, voice)
    return said


def moved(spans: Sequence[Span], at: float) -> tuple[Span, ...]:
    """The spans of a speech that begins `at` seconds of the recording."""
    return tuple(Span(span.name, span.t0 + at, span.t1 + at) for span in spans)


def quiet(duration: float, seed: Sequence[int]) -> NDArray[np.float32]:
    """(n,) float32 at 16 kHz: a room in which nobody speaks."""
    return np.random.default_rng(seed).normal(0, ROOM, round(duration * RATE)).astype(np.float32)


def write_wav(path: Path, samples: NDArray[np.float32], comment: str) -> None:
    """`samples` (n,) or (n, 2) in -1..1 as 16-bit PCM at 16 kHz."""
    pcm = np.round(np.clip(samples, -1, 1) * 32_767).astype(np.int16)
    channels = 1 if pcm.ndim == 1 else pcm.shape[1]
    with soundfile.SoundFile(path, "w", RATE, channels, "PCM_16", format="WAV") as file:
        file.comment = comment
        file.write(pcm)


def write_text(path: Path, text: str, encoding: str = "ascii") -> None:
    """The text as it is, line ends too."""
    path.write_text(text, encoding=encoding, newline="")

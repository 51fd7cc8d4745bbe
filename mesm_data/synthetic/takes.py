"""Helpers from the plan of a recording to its files: speech of limited length, room noise, wavs, texts."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from mesm_data.synthetic.speech import RATE, Span, Speech, Synthesiser, Voice
from mesm_data.synthetic.text import spoken

NOISE = 0.0005  # standard deviation of a quiet room's noise, -66 dB of full scale


def speak_within(synthesiser: Synthesiser, text: str, voice: Voice, room: float) -> Speech:
    """Synthesise the text of a transcript; the voice is accelerated if it needs more than `room` seconds."""
    text = " ".join(words for _, words in spoken(text))
    speech = synthesiser.say(text, voice)
    while speech.duration > room:
        voice = replace(voice, rate=ceil(voice.rate * max(1.02, speech.duration / room)))
        speech = synthesiser.say(text, voice)
    return speech


def shift_spans(spans: Sequence[Span], at: float) -> tuple[Span, ...]:
    """Shift the spans of a speech that starts at `at` seconds of the recording."""
    return tuple(Span(span.name, span.start + at, span.end + at) for span in spans)


def room_noise(duration: float, seed: Sequence[int]) -> NDArray[np.float32]:
    """Draw the noise of a quiet room, (n,) float32 at 16 kHz."""
    return np.random.default_rng(seed).normal(0, NOISE, round(duration * RATE)).astype(np.float32)


def write_wav(path: Path, samples: NDArray[np.float32], comment: str) -> None:
    """Write samples (n,) or (n, 2) in -1..1 as 16-bit PCM at 16 kHz."""
    pcm = np.round(np.clip(samples, -1, 1) * 32_767).astype(np.int16)
    channels = 1 if pcm.ndim == 1 else pcm.shape[1]
    with soundfile.SoundFile(path, "w", RATE, channels, "PCM_16", format="WAV") as file:
        file.comment = comment
        file.write(pcm)


def write_text(path: Path, text: str, encoding: str = "ascii") -> None:
    """Write text without converting its line breaks."""
    path.write_text(text, encoding=encoding, newline="")

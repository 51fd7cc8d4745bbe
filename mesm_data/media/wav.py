"""Encode and decode mono 16-bit wav files with a canonical header of 44 bytes."""

import struct

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz, the recipe's default
WAV_HEADER_SIZE = 44  # bytes


def encode_wav(samples: NDArray[np.int16], rate: int = SAMPLE_RATE) -> bytes:
    """Encode int16 (n,) at `rate` Hz."""
    assert samples.dtype == np.int16
    assert samples.ndim == 1
    return _wav_header(2 * len(samples), rate) + samples.astype("<i2").tobytes()


def decode_wav(member: bytes | memoryview, rate: int = SAMPLE_RATE) -> NDArray[np.int16]:
    """Decode a wav member to int16 (n,), without a copy. Raises ValueError unless it has the canonical header."""
    if bytes(member[:WAV_HEADER_SIZE]) != _wav_header(len(member) - WAV_HEADER_SIZE, rate):
        raise ValueError(f"not a mono 16-bit wav of {rate} Hz with a plain 44-byte header")
    return np.frombuffer(member, "<i2", offset=WAV_HEADER_SIZE)


def _wav_header(size: int, rate: int) -> bytes:
    """The RIFF header for `size` bytes of mono 16-bit PCM at `rate` Hz."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return (
        struct.pack("<4sI4s4s", b"RIFF", (36 + size) % 2**32, b"WAVE", b"fmt ")
        + form
        + struct.pack("<4sI", b"data", size % 2**32)
    )

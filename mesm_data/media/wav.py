"""Mono 16-bit sound as a RIFF file with one spelling: a plain header of 44 bytes, then the samples."""

import struct

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz, unless the recipe says another


WAV_HEADER_SIZE = 44


def encode_wav(samples: NDArray[np.int16], rate: int = SAMPLE_RATE) -> bytes:
    """int16 (n,) at `rate` Hz as a RIFF file with the plain 44-byte header."""
    assert samples.dtype == np.int16
    assert samples.ndim == 1
    return _wav_header(2 * len(samples), rate) + samples.astype("<i2").tobytes()


def decode_wav(member: bytes | memoryview, rate: int = SAMPLE_RATE) -> NDArray[np.int16]:
    """The samples in a wav member of `rate` Hz, int16 (n,), without a copy. Raises ValueError on anything else."""
    if bytes(member[:WAV_HEADER_SIZE]) != _wav_header(len(member) - WAV_HEADER_SIZE, rate):
        raise ValueError(f"not a mono 16-bit wav of {rate} Hz with a plain 44-byte header")
    return np.frombuffer(member, "<i2", offset=WAV_HEADER_SIZE)


def _wav_header(size: int, rate: int) -> bytes:
    """RIFF header for `size` bytes of mono 16-bit PCM at `rate` Hz."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return (
        struct.pack("<4sI4s4s", b"RIFF", (36 + size) % 2**32, b"WAVE", b"fmt ")
        + form
        + struct.pack("<4sI", b"data", size % 2**32)
    )

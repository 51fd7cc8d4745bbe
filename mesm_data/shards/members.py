"""The members of a sample as bytes, and back: each has one spelling, and its data can be used where it lies.

<key>.faces.npy   uint8 (n, size, size, 3)   data at byte 128
<key>.json        canonical JSON
<key>.txt         UTF-8, NFC
<key>.wav         int16 (n,)                 data at byte 44
"""

import math
import re
import struct
import unicodedata

import numpy as np
from numpy.typing import NDArray

EXTENSIONS = ("faces.npy", "json", "txt", "wav")
SAMPLE_RATE = 16_000  # Hz, unless the recipe says another
NPY_DATA = 128
WAV_DATA = 44

_NPY_MAGIC = b"\x93NUMPY\x01\x00" + struct.pack("<H", NPY_DATA - 10)
_NUMBER = rb"(0|[1-9]\d{0,17})"
_NPY_HEADER = re.compile(
    rb"\{'descr': '\|u1', 'fortran_order': False, 'shape': \(" + b", ".join([_NUMBER] * 3) + rb", 3\), \} *\n"
)


def encode_faces(faces: NDArray[np.uint8]) -> bytes:
    """uint8 (n, h, w, 3) as .npy, version 1.0. Our own header: numpy's padding changed between its releases."""
    assert faces.dtype == np.uint8
    assert faces.ndim == 4
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {faces.shape!r}, }}"
    return _NPY_MAGIC + header.ljust(NPY_DATA - len(_NPY_MAGIC) - 1).encode() + b"\n" + faces.tobytes()


def decode_faces(member: bytes | memoryview) -> NDArray[np.uint8]:
    """The crops in a faces.npy member, uint8 (n, h, w, 3), without a copy. Raises ValueError on anything else."""
    head = bytes(member[:NPY_DATA])
    found = _NPY_HEADER.fullmatch(head[len(_NPY_MAGIC) :])
    if not head.startswith(_NPY_MAGIC) or not found:
        raise ValueError("not a faces.npy of this format")
    shape = (*(int(number) for number in found.groups()), 3)
    if math.prod(shape) != len(member) - NPY_DATA:
        raise ValueError(f"faces.npy says shape {shape} and holds {len(member) - NPY_DATA} bytes")
    return np.frombuffer(member, np.uint8, offset=NPY_DATA).reshape(shape)


def encode_wav(samples: NDArray[np.int16], rate: int = SAMPLE_RATE) -> bytes:
    """int16 (n,) at `rate` Hz as a RIFF file with the plain 44-byte header."""
    assert samples.dtype == np.int16
    assert samples.ndim == 1
    return _wav_header(2 * len(samples), rate) + samples.astype("<i2").tobytes()


def decode_wav(member: bytes | memoryview, rate: int = SAMPLE_RATE) -> NDArray[np.int16]:
    """The samples in a wav member of `rate` Hz, int16 (n,), without a copy. Raises ValueError on anything else."""
    if bytes(member[:WAV_DATA]) != _wav_header(len(member) - WAV_DATA, rate):
        raise ValueError(f"not a mono 16-bit wav of {rate} Hz with a plain 44-byte header")
    return np.frombuffer(member, "<i2", offset=WAV_DATA)


def _wav_header(size: int, rate: int) -> bytes:
    """RIFF header for `size` bytes of mono 16-bit PCM at `rate` Hz."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return (
        struct.pack("<4sI4s4s", b"RIFF", (36 + size) % 2**32, b"WAVE", b"fmt ")
        + form
        + struct.pack("<4sI", b"data", size % 2**32)
    )


def normal_text(transcript: str) -> str:
    """A transcript as shards hold it: NFC."""
    return unicodedata.normalize("NFC", transcript)

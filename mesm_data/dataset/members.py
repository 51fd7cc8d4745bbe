"""Encode and decode the members of a sample. Each has a canonical form, and its data can be used without a copy.

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
NPY_HEADER_SIZE = 128

_NPY_MAGIC = b"\x93NUMPY\x01\x00" + struct.pack("<H", NPY_HEADER_SIZE - 10)
_NUMBER = rb"(0|[1-9]\d{0,17})"
_NPY_HEADER = re.compile(
    rb"\{'descr': '\|u1', 'fortran_order': False, 'shape': \(" + b", ".join([_NUMBER] * 3) + rb", 3\), \} *\n"
)


def encode_faces(faces: NDArray[np.uint8]) -> bytes:
    """Encode uint8 (n, h, w, 3) as .npy, version 1.0, with our own header: numpy's padding differs between releases."""
    assert faces.dtype == np.uint8
    assert faces.ndim == 4
    return npy_header("|u1", faces.shape) + faces.tobytes()


def npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    """The NPY_HEADER_SIZE bytes before the data of a .npy file, version 1.0, of an array in C order."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape!r}, }}"
    return _NPY_MAGIC + header.ljust(NPY_HEADER_SIZE - len(_NPY_MAGIC) - 1).encode() + b"\n"


def decode_faces(member: bytes | memoryview) -> NDArray[np.uint8]:
    """Decode a faces.npy member to uint8 (n, h, w, 3), without a copy. Raises ValueError on any other format."""
    header = bytes(member[:NPY_HEADER_SIZE])
    match = _NPY_HEADER.fullmatch(header[len(_NPY_MAGIC) :])
    if not header.startswith(_NPY_MAGIC) or not match:
        raise ValueError("not a faces.npy of this format")
    shape = (*(int(number) for number in match.groups()), 3)
    if math.prod(shape) != len(member) - NPY_HEADER_SIZE:
        raise ValueError(f"faces.npy says shape {shape} and holds {len(member) - NPY_HEADER_SIZE} bytes")
    return np.frombuffer(member, np.uint8, offset=NPY_HEADER_SIZE).reshape(shape)


def normalize_text(transcript: str) -> str:
    """Normalize a transcript to NFC."""
    return unicodedata.normalize("NFC", transcript)

"""A model file with YuNet's input and outputs and weights of ours: red and blue cells of a picture are faces.

ONNX is protobuf; what is written here are the few fields that OpenCV reads (onnx.proto of ONNX 1.16).
"""

import math
import struct
from collections.abc import Sequence

SMALL, LARGE = 50, 100  # pixels: sides of the face around a red cell of 8x8 pixels, and a blue one of 16x16

_OUTPUTS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}  # values of a cell: two scores, a box, five landmarks
_RED, _BLUE = 2, 0  # YuNet reads pictures as BGR
_INTS, _FLOAT, _INT64 = 7, 1, 7  # AttributeProto.INTS, TensorProto.FLOAT and INT64


def model() -> bytes:
    """The ONNX file. A cell's scores are its mean brightness in one colour; every landmark is the cell's corner."""
    nodes, tensors, outputs = b"", b"", b""
    sides = {8: SMALL, 16: LARGE, 32: 1}
    for kind, count in _OUTPUTS.items():
        for stride, side in sides.items():
            name, area = f"{kind}_{stride}", stride * stride
            colour = {8: _RED, 16: _BLUE}.get(stride)
            scored = kind in ("cls", "obj") and colour is not None
            kernel = [1 / 255 / area if scored and channel == colour else 0.0 for channel in range(3)]
            weights = [value for _ in range(count) for value in kernel for _ in range(area)]
            size = math.log(side / stride)  # OpenCV takes exp(size) * stride
            bias = [0.0, 0.0, size, size] if kind == "bbox" else [0.0] * count
            tensors += _tensor(f"{name}_w", (count, 3, stride, stride), weights) + _tensor(f"{name}_b", (count,), bias)
            tensors += _field(
                5,
                _field(1, 3) + _field(2, _INT64) + _field(8, f"{name}_s") + _field(9, struct.pack("<3q", 1, -1, count)),
            )
            nodes += _node("Conv", ("input", f"{name}_w", f"{name}_b"), f"{name}_c", stride)
            nodes += _node("Transpose", (f"{name}_c",), f"{name}_t", None)
            nodes += _node("Reshape", (f"{name}_t", f"{name}_s"), name, 0)
            outputs += _field(12, _value(name, (1, None, count)))
    graph = nodes + _field(2, "stub") + tensors + _field(11, _value("input", (1, 3, None, None))) + outputs
    return _field(1, 7) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


def _field(number: int, value: int | bytes | str) -> bytes:
    """A protobuf field: a varint, or bytes behind their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    low = b""
    while value > 127:
        low += bytes([value & 127 | 128])
        value >>= 7
    return low + bytes([value])


def _tensor(name: str, shape: Sequence[int], values: Sequence[float]) -> bytes:
    dims = b"".join(_field(1, side) for side in shape)
    raw = struct.pack(f"<{len(values)}f", *values)
    return _field(5, dims + _field(2, _FLOAT) + _field(8, name) + _field(9, raw))


def _node(kind: str, inputs: Sequence[str], output: str, stride: int | None) -> bytes:
    """A Conv without overlap (`stride`), a Transpose to channels last (None), or a Reshape (0)."""
    attributes = {"kernel_shape": (stride, stride), "strides": (stride, stride)} if stride else {}
    attributes = {"perm": (0, 2, 3, 1)} if stride is None else attributes
    body = b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(3, output) + _field(4, kind)
    for name, numbers in attributes.items():
        ints = b"".join(_field(8, int(number or 0)) for number in numbers)
        body += _field(5, _field(1, name) + ints + _field(20, _INTS))
    return _field(1, body)


def _value(name: str, shape: Sequence[int | None]) -> bytes:
    dims = b"".join(_field(1, _field(2, "n") if side is None else _field(1, side)) for side in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, _FLOAT) + _field(2, dims)))

"""The pixels of a decoded frame, as they are meant to be seen: upright, RGB, or 4:2:0 for a clip.

All of it is integer arithmetic of our own: swscale rounds differently from CPU to CPU.
"""

import struct
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mesm_data.corpora.base import Picture

if TYPE_CHECKING:
    import av

# Red and blue weights of luma: ITU-R BT.601 and BT.709.
_BT601, _BT709 = (0.299, 0.114), (0.2126, 0.0722)
_SCALE = 1 << 16
_BLOCK = 60_000  # pixels that are converted together: 240 kB of int32 stay in a cache
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
# Packed formats that only need their bytes put into planes.
_PLANAR = {"yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p", "nv12": "yuv420p", "nv21": "yuv420p"}


def size(image: "av.VideoFrame") -> tuple[int, int]:
    """Width and height of a frame as it is shown."""
    orientation = _orientation(image)
    return (image.height, image.width) if orientation and orientation[0] else (image.width, image.height)


def columns(picture: Picture, width: int) -> tuple[int, int]:
    """The speaker's part of a frame `width` pixels wide: [left, right), even, as chroma has half the columns."""
    right = width if picture.right >= 1 else min(round(picture.right * width / 2) * 2, width)
    return round(picture.left * width / 2) * 2, right


def rgb(image: "av.VideoFrame", left: int, right: int) -> NDArray[np.uint8]:
    """The columns left <= x < right of the shown frame as uint8 (h, right - left, 3) RGB; chroma is repeated."""
    if _orientation(image):
        return np.ascontiguousarray(_upright(_rgb(image, 0, image.width), image)[:, left:right])
    return _rgb(image, left, right)


def planes(image: "av.VideoFrame", left: int, right: int) -> tuple[NDArray[np.uint8], ...]:
    """Y (h, w), U and V (ceil(h/2), ceil(w/2)) of the columns left <= x < right of the shown frame.

    Views where possible. Finer chroma is averaged to 4:2:0.
    """
    if _is_rgb(image):
        image = image.reformat(format="yuv420p")  # by swscale: a clip is promised to be equivalent only
    turned = _orientation(image) is not None
    luma, chroma, steps = _components(image, 0 if turned else left, image.width if turned else right)
    if not chroma:  # grey
        grey = np.full((-(-luma.shape[0] // 2), -(-luma.shape[1] // 2)), 128, np.uint8)
        chroma, steps = (grey, grey), (2, 2)
    cut = (luma, *(_halved(plane, steps) for plane in chroma))
    if not turned:
        return cut
    cut = tuple(_upright(plane, image) for plane in cut)
    return (cut[0][:, left:right], *(plane[:, left // 2 : -(-right // 2)] for plane in cut[1:]))


def colour_tags(image: "av.VideoFrame") -> dict[str, str]:
    """The colour range and matrix of `planes`, in the words of ffmpeg's filter setparams; no entry: not known."""
    if _is_rgb(image):
        return {"range": "tv", "colorspace": "smpte170m"}
    matrix = {1: "bt709", 5: "bt470bg", 6: "smpte170m"}.get(int(image.colorspace))
    return {"range": "pc" if _is_full_range(image) else "tv", **({"colorspace": matrix} if matrix else {})}


def _rgb(image: "av.VideoFrame", left: int, right: int) -> NDArray[np.uint8]:
    """Columns of the stored frame as RGB, by 16-bit fixed point."""
    if _is_rgb(image):
        packed = image.reformat(format="rgb24").to_ndarray()
        return np.ascontiguousarray(packed[:, left:right])
    luma, chroma, (down, across) = _components(image, left, right)
    black, gain, chroma_gain = (0, 1.0, 1.0) if _is_full_range(image) else (16, 255 / 219, 255 / 224)
    step, offset = round(_SCALE * gain), _SCALE // 2 - black * round(_SCALE * gain)
    picture = np.empty((*luma.shape, 3), np.uint8)
    if not chroma:
        grey = luma.astype(np.int32) * step + offset
        picture[...] = np.clip(grey >> 16, 0, 255)[..., None]
        return picture
    u, v = (plane.astype(np.int32) - 128 for plane in chroma)
    red, blue = _BT709 if _is_bt709(image) else _BT601
    green = 1 - red - blue
    scale = _SCALE * chroma_gain
    colours = (
        v * round(scale * 2 * (1 - red)),
        u * -round(scale * 2 * (1 - blue) * blue / green) + v * -round(scale * 2 * (1 - red) * red / green),
        u * round(scale * 2 * (1 - blue)),
    )
    height, width = luma.shape
    wide = [colour.repeat(across, 1)[:, :width] for colour in colours]
    # Some rows at a time: whole pictures cost more in memory than in arithmetic (640x720: 5.4 against 1.8 ms).
    rows = max(_BLOCK // width // down, 1) * down
    for top in range(0, height, rows):
        grey = np.multiply(luma[top : top + rows], step, dtype=np.int32)
        grey += offset
        for index, colour in enumerate(wide):
            channel = colour[top // down : (top + rows) // down].repeat(down, 0)[: len(grey)]
            channel += grey
            channel >>= 16
            picture[top : top + rows, :, index] = np.clip(channel, 0, 255, out=channel)
    return picture


def _components(
    image: "av.VideoFrame", left: int, right: int
) -> tuple[NDArray[np.uint8], tuple[NDArray[np.uint8], ...], tuple[int, int]]:
    """Luma, chroma (two planes, or none) and how many rows and columns of luma one of chroma stands for; 8 bits."""
    image = _planar(image)
    kind = image.format
    count = min(len(kind.components), 3)
    if count < 3:
        return _plane(image, 0, left, right), (), (1, 1)
    across, down = (2**bits for bits in _subsampling(image))
    chroma = tuple(_plane(image, index, left // across, -(-right // across)) for index in (1, 2))
    return _plane(image, 0, left, right), chroma, (down, across)


def _planar(image: "av.VideoFrame") -> "av.VideoFrame":
    """The frame in a format whose first three planes are Y, U and V (or Y alone), little-endian."""
    name = image.format.name
    if name.startswith(("yuv4", "yuvj4", "yuva4", "gray")) and not name.endswith("be"):
        return image
    return image.reformat(format=_PLANAR.get(name, "yuv444p"))


def _subsampling(image: "av.VideoFrame") -> tuple[int, int]:
    """log2 of the luma columns and rows that one column and row of chroma stands for."""
    luma, chroma = image.planes[0], image.planes[1]
    return tuple(  # type: ignore[return-value]
        next(bits for bits in range(4) if -(-whole // 2**bits) == part)
        for whole, part in ((luma.width, chroma.width), (luma.height, chroma.height))
    )


def _plane(image: "av.VideoFrame", index: int, left: int, right: int) -> NDArray[np.uint8]:
    """The columns left <= x < right of a plane, rounded to 8 bits."""
    plane, bits = image.planes[index], image.format.components[index].bits
    wide = bits > 8
    rows = np.frombuffer(memoryview(plane), "<u2" if wide else np.uint8)
    cut = rows.reshape(-1, plane.line_size // (2 if wide else 1))[: plane.height, left : min(right, plane.width)]
    if not wide:
        return cut.astype(np.uint8, copy=False)
    rounded: NDArray[np.int32] = (cut.astype(np.int32) + (1 << (bits - 9))) >> (bits - 8)
    return np.minimum(rounded, 255).astype(np.uint8)


def _halved(plane: NDArray[np.uint8], steps: tuple[int, int]) -> NDArray[np.uint8]:
    """Chroma that stands for `steps` rows and columns of luma, as one that stands for two of each."""
    for axis, step in enumerate(steps):
        if step == 1:
            even = plane.take(range(0, plane.shape[axis], 2), axis).astype(np.uint16)
            odd = plane.take([min(at + 1, plane.shape[axis] - 1) for at in range(0, plane.shape[axis], 2)], axis)
            plane = ((even + odd + 1) >> 1).astype(np.uint8)
        elif step > 2:
            plane = plane.repeat(step // 2, axis)
    return plane


def _orientation(image: "av.VideoFrame") -> tuple[bool, bool, bool] | None:
    """Transpose, then flip the rows, then the columns: how the display matrix turns a frame; None: it is upright.

    Only what keeps pixels whole is followed: quarter turns and mirrors. Other angles are taken to the nearest of them.
    """
    from av.sidedata.sidedata import SideData

    data = image.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData):
        return None
    # (a, b, u, c, d, v, x, y, w): a stored (p, q) is shown at (a p + c q, b p + d q).
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(memoryview(data))[:36])
    transpose = abs(b) > abs(a)
    flips = (b < 0, c < 0) if transpose else (d < 0, a < 0)
    return (transpose, *flips) if transpose or any(flips) else None


def _upright(picture: NDArray[np.uint8], image: "av.VideoFrame") -> NDArray[np.uint8]:
    orientation = _orientation(image)
    assert orientation
    transpose, rows, across = orientation
    if transpose:
        picture = picture.swapaxes(0, 1)
    return picture[:: -1 if rows else 1, :: -1 if across else 1]


def _is_rgb(image: "av.VideoFrame") -> bool:
    return bool(image.format.is_rgb) or image.format.name == "pal8"


def _is_full_range(image: "av.VideoFrame") -> bool:
    return image.format.name.startswith("yuvj") or int(image.color_range) == _FULL_RANGE


def _is_bt709(image: "av.VideoFrame") -> bool:
    """As tagged (1 is BT.709); untagged pictures of 720 lines and more are taken for BT.709, as players do."""
    space = int(image.colorspace)
    return space == 1 or (space == 2 and image.height >= 720)

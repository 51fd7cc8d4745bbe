"""Convert decoded frames to upright RGB images, or to YUV 4:2:0 planes for a clip.

The conversion is integer arithmetic of our own, because swscale rounds differently on different CPUs.
"""

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mesm_data.media.frame import Frame, Orientation
from mesm_data.schema.recordings import VideoRegion

if TYPE_CHECKING:
    import av


class _Matrix(NamedTuple):
    """A colour matrix: FFmpeg's name, and the weights of red and blue in luma."""

    name: str
    red: float
    blue: float


_MATRICES = {  # by the number of ITU-T H.273, which is FFmpeg's too
    1: _Matrix("bt709", 0.2126, 0.0722),
    4: _Matrix("fcc", 0.30, 0.11),
    5: _Matrix("bt470bg", 0.299, 0.114),
    6: _Matrix("smpte170m", 0.299, 0.114),  # BT.601
    7: _Matrix("smpte240m", 0.212, 0.087),
    9: _Matrix("bt2020nc", 0.2627, 0.0593),  # HDR of telephones
}
_BT709, _BT601, _UNTAGGED = 1, 6, 2
_SCALE = 1 << 16
_BLOCK = 30_000  # chroma samples that are converted together: 120 kB of int32, which fit in a cache
# numpy scalars: for plain ints numpy looks up the limits of the type at each call.
_BLACK, _WHITE = np.int32(0), np.int32(256 * _SCALE - 1)
_LIMITED_RANGE, _FULL_RANGE = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG
# Packed formats, and the planar format with the same samples.
_PLANAR = {"yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p", "nv12": "yuv420p", "nv21": "yuv420p"}
_BIG_ENDIAN_RGB16 = ("rgb565be", "rgb555be", "bgr565be", "bgr555be")


def frame_size(frame: Frame) -> tuple[int, int]:
    """Width and height of the upright frame, in pixels."""
    width, height = frame.image.width, frame.image.height
    return (height, width) if frame.orientation and frame.orientation.transpose else (width, height)


def region_columns(picture: VideoRegion, width: int) -> tuple[int, int]:
    """The columns [left, right) of the speaker's part of a frame; even, since chroma has half the columns.

    Args:
        picture: The region as fractions of the width.
        width: The width of the upright frame in pixels.
    """
    right = width if picture.right >= 1 else min(round(picture.right * width / 2) * 2, width)
    return round(picture.left * width / 2) * 2, right


def to_rgb(frame: Frame, left: int, right: int) -> NDArray[np.uint8]:
    """The columns [left, right) of the upright frame as RGB, uint8 (h, right - left, 3); chroma is repeated."""
    if frame.orientation:
        image = _upright(_rgb(frame.image, 0, frame.image.width), frame.orientation)
        return np.ascontiguousarray(image[:, left:right])
    return _rgb(frame.image, left, right)


def yuv420_planes(frame: Frame, left: int, right: int) -> tuple[NDArray[np.uint8], ...]:
    """The columns [left, right) of the upright frame as YUV 4:2:0.

    Returns:
        Y (h, w), U and V (ceil(h/2), ceil(w/2)), all uint8; views where possible. Finer chroma is averaged.
    """
    image, orientation = frame.image, frame.orientation
    if _is_rgb(image):
        image = image.reformat(format="yuv420p")  # by swscale: clips are promised to be equivalent, not identical
    luma, chroma, steps = _components(image, 0 if orientation else left, image.width if orientation else right)
    if not chroma:  # grey
        grey = np.full((-(-luma.shape[0] // 2), -(-luma.shape[1] // 2)), 128, np.uint8)
        chroma, steps = (grey, grey), (2, 2)
    cut = (luma, *(_halved(plane, steps) for plane in chroma))
    if not orientation:
        return cut
    cut = tuple(_upright(plane, orientation) for plane in cut)
    return (cut[0][:, left:right], *(plane[:, left // 2 : -(-right // 2)] for plane in cut[1:]))


def colour_tags(image: "av.VideoFrame") -> dict[str, str]:
    """The colour range and matrix of `yuv420_planes` as arguments of ffmpeg's setparams, without unknown ones."""
    if _is_rgb(image):
        return {"range": "tv", "colorspace": "smpte170m"}
    matrix = _MATRICES.get(int(image.colorspace))
    return {"range": "pc" if _is_full_range(image) else "tv", **({"colorspace": matrix.name} if matrix else {})}


def _rgb(image: "av.VideoFrame", left: int, right: int) -> NDArray[np.uint8]:
    """Columns of the stored image as RGB, in 16-bit fixed point."""
    if _is_rgb(image):
        if image.format.name in _BIG_ENDIAN_RGB16:  # libswscale 9.5 reads them as little-endian on the way to rgb24
            image = image.reformat(format="gbrp")
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
    _, red, blue = _matrix(image)
    green = 1 - red - blue
    scale = _SCALE * chroma_gain
    to_red, to_blue = round(scale * 2 * (1 - red)), round(scale * 2 * (1 - blue))
    u_to_green, v_to_green = round(scale * 2 * (1 - blue) * blue / green), round(scale * 2 * (1 - red) * red / green)
    # A few rows at a time, because whole images do not fit in the cache; and one pixel per chroma sample at a time,
    # instead of repeating chroma: 0.6 ms instead of 2.1 ms for 360x480.
    count = max(_BLOCK // chroma[0].shape[1], 1)
    for top in range(0, len(chroma[0]), count):
        u, v = (plane[top : top + count].astype("<i4") - 128 for plane in chroma)
        colours = (v * to_red + offset, offset - u * u_to_green - v * v_to_green, u * to_blue + offset)
        rows = slice(top * down, (top + count) * down)
        for row, column in product(range(down), range(across)):
            grey = np.multiply(luma[rows][row::down, column::across], step, dtype=np.int32)
            for index, colour in enumerate(colours):
                channel = colour[: grey.shape[0], : grey.shape[1]] + grey
                whole = channel.clip(_BLACK, _WHITE, out=channel).view(np.uint8)[:, 2::4]  # the byte above the fraction
                picture[rows][row::down, column::across, index] = whole
    return picture


def _components(
    image: "av.VideoFrame", left: int, right: int
) -> tuple[NDArray[np.uint8], tuple[NDArray[np.uint8], ...], tuple[int, int]]:
    """Luma, chroma (two planes, or none), and the rows and columns of luma per chroma sample; all 8 bits."""
    image = _planar(image)
    kind = image.format
    count = min(len(kind.components), 3)
    if count < 3:
        return _plane(image, 0, left, right), (), (1, 1)
    across, down = (2**bits for bits in _subsampling(image))
    chroma = tuple(_plane(image, index, left // across, -(-right // across)) for index in (1, 2))
    return _plane(image, 0, left, right), chroma, (down, across)


def _planar(image: "av.VideoFrame") -> "av.VideoFrame":
    """The image in a little-endian format whose first three planes are Y, U and V, or whose first is Y alone."""
    name = image.format.name
    if not name.startswith(("yuv4", "yuvj4", "yuva4", "gray")):
        return image.reformat(format=_PLANAR.get(name, "yuv444p"))
    return image.reformat(format=f"{name[:-2]}le") if name.endswith("be") else image


def _subsampling(image: "av.VideoFrame") -> tuple[int, int]:
    """log2 of the luma columns and rows per chroma sample."""
    luma, chroma = image.planes[0], image.planes[1]
    return tuple(  # type: ignore[return-value]
        next(bits for bits in range(4) if -(-whole // 2**bits) == part)
        for whole, part in ((luma.width, chroma.width), (luma.height, chroma.height))
    )


def _plane(image: "av.VideoFrame", index: int, left: int, right: int) -> NDArray[np.uint8]:
    """The columns [left, right) of a plane, rounded to 8 bits."""
    plane, bits = image.planes[index], image.format.components[index].bits
    wide = bits > 8
    rows = np.frombuffer(memoryview(plane), "<u2" if wide else np.uint8)
    cut = rows.reshape(-1, plane.line_size // (2 if wide else 1))[: plane.height, left : min(right, plane.width)]
    if not wide:
        return cut.astype(np.uint8, copy=False)
    rounded: NDArray[np.int32] = (cut.astype(np.int32) + (1 << (bits - 9))) >> (bits - 8)
    return np.minimum(rounded, 255).astype(np.uint8)


def _halved(plane: NDArray[np.uint8], steps: tuple[int, int]) -> NDArray[np.uint8]:
    """Resample chroma from one sample per `steps` rows and columns of luma to one per two of each."""
    for axis, step in enumerate(steps):
        if step == 1:
            even = plane.take(range(0, plane.shape[axis], 2), axis).astype(np.uint16)
            odd = plane.take([min(at + 1, plane.shape[axis] - 1) for at in range(0, plane.shape[axis], 2)], axis)
            plane = ((even + odd + 1) >> 1).astype(np.uint8)
        elif step > 2:
            plane = plane.repeat(step // 2, axis)
    return plane


def _upright(picture: NDArray[np.uint8], orientation: Orientation) -> NDArray[np.uint8]:
    if orientation.transpose:
        picture = picture.swapaxes(0, 1)
    return picture[:: -1 if orientation.reverse_rows else 1, :: -1 if orientation.reverse_columns else 1]


def _is_rgb(image: "av.VideoFrame") -> bool:
    return bool(image.format.is_rgb) or image.format.name == "pal8"


def _is_full_range(image: "av.VideoFrame") -> bool:
    """Whether black is 0 and white 255, not 16 and 235. Grey without a tag (raw Y800, say) is, as in players."""
    name, tag = image.format.name, int(image.color_range)
    return tag == _FULL_RANGE or name.startswith("yuvj") or (name.startswith("gray") and tag != _LIMITED_RANGE)


def _matrix(image: "av.VideoFrame") -> _Matrix:
    """The matrix of an image's tag, else BT.601. An untagged image of 720 lines and more uses BT.709, as in players."""
    number = int(image.colorspace)
    is_high = number == _UNTAGGED and image.height >= 720
    return _MATRICES.get(number, _MATRICES[_BT709 if is_high else _BT601])

"""A decoded frame with its exact time and its orientation."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """How a stored image becomes upright: transpose it, then reverse the rows, then the columns."""

    transpose: bool
    reverse_rows: bool
    reverse_columns: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One decoded frame, shown from `begin` to `end`, in units of 1 / `scale` seconds from the container's start."""

    begin: int
    end: int
    scale: int
    image: "av.VideoFrame"
    orientation: Orientation | None = None  # None: the stored image is upright

    @property
    def time(self) -> Fraction:
        """When the frame is first shown, in seconds."""
        return Fraction(self.begin, self.scale)

    @property
    def end_time(self) -> Fraction:
        """When the frame is no longer shown, in seconds."""
        return Fraction(self.end, self.scale)


def read_orientation(image: "av.VideoFrame") -> Orientation | None:
    """The orientation that a frame's display matrix asks for; None if the stored image is upright.

    Only quarter turns and mirrors are followed, which keep pixels whole; other angles are rounded to the nearest of
    them. Call it for the first frame of a video only: PyAV's side data and its frame refer to each other, so each such
    frame waits for the garbage collector, and the decoder, short of buffers, takes twice as long.
    """
    from av.sidedata.sidedata import SideData

    data = image.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData):
        return None
    # (a, b, u, c, d, v, x, y, w): the stored pixel (p, q) is shown at (a p + c q, b p + d q).
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(memoryview(data))[:36])
    transpose = abs(b) > abs(a)
    rows, columns = (b < 0, c < 0) if transpose else (d < 0, a < 0)
    if not (transpose or rows or columns):
        return None
    return Orientation(transpose=transpose, reverse_rows=rows, reverse_columns=columns)

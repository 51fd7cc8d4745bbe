"""One decoded picture with its exact time, and which side of it is up."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """How a stored picture becomes the shown one: transposed, then its rows, then its columns flipped."""

    transpose: bool
    rows: bool
    columns: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One decoded picture, shown from `begin` until `end`, in 1 / `scale` seconds from the container's start."""

    begin: int
    end: int
    scale: int
    image: "av.VideoFrame"
    turn: Orientation | None = None  # None: it is upright

    @property
    def time(self) -> Fraction:
        """When it is first shown, in seconds."""
        return Fraction(self.begin, self.scale)

    @property
    def until(self) -> Fraction:
        """When it is no longer shown, in seconds."""
        return Fraction(self.end, self.scale)


def read_orientation(image: "av.VideoFrame") -> Orientation | None:
    """How the display matrix turns a frame; None: it is upright.

    Only what keeps pixels whole is followed: quarter turns and mirrors. Other angles are taken to the nearest of them.
    To be asked of a film's first frame only: PyAV's side data and its frame hold each other, so that every frame asked
    waits for the garbage collector, and the decoder, short of buffers, takes twice as long.
    """
    from av.sidedata.sidedata import SideData

    data = image.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData):
        return None
    # (a, b, u, c, d, v, x, y, w): a stored (p, q) is shown at (a p + c q, b p + d q).
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(memoryview(data))[:36])
    transpose = abs(b) > abs(a)
    rows, columns = (b < 0, c < 0) if transpose else (d < 0, a < 0)
    return Orientation(transpose=transpose, rows=rows, columns=columns) if transpose or rows or columns else None

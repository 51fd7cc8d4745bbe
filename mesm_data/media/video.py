"""A video file as frames with exact presentation times, and the speaker's picture cut out of a frame.

Decoding is bit-exact on every CPU: `bitexact` switches off the decoder's approximate SIMD paths, and colours are
converted by integer arithmetic of our own (swscale rounds differently from CPU to CPU).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mesm_data.corpora.base import Picture
from mesm_data.errors import MesmError

if TYPE_CHECKING:
    import av

# Red and blue weights of luma: ITU-R BT.601 and BT.709.
_BT601, _BT709 = (0.299, 0.114), (0.2126, 0.0722)
_SCALE = 1 << 16
_BLOCK = 60_000  # pixels that are converted together: 240 kB of int32 stay in a cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One decoded picture, shown from `time` until `until` (seconds from the container's start)."""

    time: Fraction
    until: Fraction
    image: "av.VideoFrame"


class Video:
    """One video file, decoded once from front to back.

    `broken` are the times of packets that could not be decoded (their frames are missing, the rest is used), `keys`
    those of key frames, up to where the file has been read; `stopped` says why it could not be read to its end, if so.
    Raises MesmError from the constructor if the file is not a video.
    """

    def __init__(self, path: Path) -> None:
        import av
        from av.codec.context import Flags

        try:
            self._container = av.open(f"file:{path}")
        except (av.FFmpegError, OSError) as error:
            raise MesmError(f"not a video that can be opened ({error.strerror})") from None
        if not self._container.streams.video:
            self._container.close()
            raise MesmError("holds no picture")
        stream = self._stream = self._container.streams.video[0]
        stream.codec_context.flags |= Flags.bitexact
        stream.codec_context.thread_count = 1
        self.width, self.height = stream.codec_context.width, stream.codec_context.height
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or 0)
        self.broken: list[Fraction] = []
        self.keys: list[Fraction] = []
        self._base = Fraction(stream.time_base or 1)
        self._origin = Fraction(self._container.start_time or 0, 1_000_000)
        self.stopped: str | None = None

    def frames(self) -> Iterator[Frame]:
        """All frames that can be decoded, in the order in which they are shown."""
        base, origin = self._base, self._origin
        usual = 1 / self.rate if self.rate else Fraction(0)
        # Whole numbers of 1 / scale seconds: arithmetic on Fractions took a tenth of the time of decoding.
        scale = math.lcm(base.denominator, origin.denominator, usual.denominator)
        tick, zero, each = (int(part * scale) for part in (base, origin, usual))
        end = -zero
        for image in self._images():
            stamp = image.pts if image.pts is not None else image.dts
            # A stream without time stamps (raw video, some AVIs) shows each frame for the usual time.
            begin = stamp * tick - zero if stamp is not None else end
            end = begin + (image.duration * tick if image.duration else each)
            yield Frame(time=Fraction(begin, scale), until=Fraction(end, scale), image=image)

    def _images(self) -> Iterator["av.VideoFrame"]:
        import av

        packets = self._container.demux(self._stream)
        while True:
            packet = None
            try:
                packet = next(packets)
                if packet.is_keyframe:
                    self.keys.append(self._time(packet))
                images = packet.decode()
            except StopIteration:
                return
            except av.FFmpegError as error:
                if isinstance(error, av.error.InvalidDataError) and packet is not None:
                    self.broken.append(self._time(packet))
                    continue
                self.stopped = str(error.strerror)
                return
            yield from images

    def _time(self, packet: "av.Packet[av.VideoStream]") -> Fraction:
        stamp = packet.pts if packet.pts is not None else packet.dts
        return (stamp or 0) * self._base - self._origin

    def damage(self, start: Fraction, end: Fraction) -> int:
        """How many packets could not be decoded of those that the frames with start <= t < end are made of.

        They begin at the last key frame before: a lost picture shows in all that are predicted from it. The number
        depends on the file and the span alone, not on how far beyond the span the file has been read.
        """
        begin = max((time for time in self.keys if time <= start), default=Fraction(0))
        return sum(begin <= time < end for time in self.broken)

    def close(self) -> None:
        """Release the file."""
        self._container.close()


def columns(picture: Picture, width: int) -> tuple[int, int]:
    """The speaker's part of a frame `width` pixels wide: [left, right), even, as chroma has half the columns."""
    return round(picture.left * width / 2) * 2, min(round(picture.right * width / 2) * 2, width)


def planes(image: "av.VideoFrame", left: int, right: int) -> tuple[NDArray[np.uint8], ...]:
    """Y (h, w), U and V (ceil(h/2), ceil(w/2)) of the columns left <= x < right, as views where possible."""
    if image.format.name not in ("yuv420p", "yuvj420p"):
        image = image.reformat(format="yuv420p")
    cut = []
    for plane, step in zip(image.planes, (1, 2, 2), strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
        cut.append(rows[:, left // step : -(-right // step)])
    return tuple(cut)


def rgb(image: "av.VideoFrame", left: int, right: int) -> NDArray[np.uint8]:
    """The columns left <= x < right as uint8 (h, right - left, 3) RGB, by 16-bit fixed point; chroma is repeated."""
    luma, *chroma = planes(image, left, right)
    u, v = (plane.astype(np.int32) - 128 for plane in chroma)
    full = image.format.name == "yuvj420p" or int(image.color_range) == 2
    black, gain, chroma_gain = (0, 1.0, 1.0) if full else (16, 255 / 219, 255 / 224)
    red, blue = _BT709 if _is_bt709(image) else _BT601
    green = 1 - red - blue
    scale = _SCALE * chroma_gain
    colours = (
        v * round(scale * 2 * (1 - red)),
        u * -round(scale * 2 * (1 - blue) * blue / green) + v * -round(scale * 2 * (1 - red) * red / green),
        u * round(scale * 2 * (1 - blue)),
    )
    height, width = luma.shape
    wide = [colour.repeat(2, 1)[:, :width] for colour in colours]
    step, offset = round(_SCALE * gain), _SCALE // 2 - black * round(_SCALE * gain)
    picture = np.empty((height, width, 3), np.uint8)
    # Some rows at a time: whole pictures cost more in memory than in arithmetic (640x720: 5.4 against 1.8 ms).
    rows = max(_BLOCK // width // 2, 1) * 2
    for top in range(0, height, rows):
        grey = np.multiply(luma[top : top + rows], step, dtype=np.int32)
        grey += offset
        for index, colour in enumerate(wide):
            channel = colour[top // 2 : (top + rows) // 2].repeat(2, 0)[: len(grey)]
            channel += grey
            channel >>= 16
            picture[top : top + rows, :, index] = np.clip(channel, 0, 255, out=channel)
    return picture


def _is_bt709(image: "av.VideoFrame") -> bool:
    """As tagged (1 is BT.709); untagged pictures of 720 lines and more are taken for BT.709, as players do."""
    space = int(image.colorspace)
    return space == 1 or (space == 2 and image.height >= 720)

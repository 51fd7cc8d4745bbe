"""A video file as frames with exact presentation times.

Decoding is bit-exact on every CPU: `bitexact` switches off the decoder's approximate SIMD paths.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mesm_data.errors import MesmError
from mesm_data.machine import raise_resource_error
from mesm_data.media.frame import Frame, Turn, turn

if TYPE_CHECKING:
    import av


class Video:
    """One video file, decoded once from front to back: its first picture stream that is not a cover image.

    All times are whole numbers of 1 / `scale` seconds. After the pass `stopped` says why the file could not be read to
    its end, if so. Raises MesmError from the constructor if the file is not a video.
    """

    def __init__(self, path: Path) -> None:
        import av
        from av.codec.context import Flags
        from av.stream import Disposition

        try:
            self._container = av.open(f"file:{path}")
        except (av.FFmpegError, OSError) as error:
            raise_resource_error(error)
            raise MesmError(f"not a video that can be opened ({error.strerror})") from None
        covers = Disposition.attached_pic | Disposition.timed_thumbnails
        streams = [stream for stream in self._container.streams.video if not stream.disposition & covers]
        if not streams:
            cover = " but a cover image" if self._container.streams.video else ""
            self._container.close()
            raise MesmError(f"holds no picture{cover}")
        stream = self._stream = streams[0]
        if stream.codec_context is None:
            self._container.close()
            raise MesmError("holds a picture of a kind that this FFmpeg cannot decode")
        stream.codec_context.flags |= Flags.bitexact
        stream.codec_context.thread_count = 1
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or 0)
        self._broken: list[Fraction] = []  # times of packets that could not be decoded, so far
        self._keys: list[Fraction] = []  # times of key frames
        self._base = Fraction(stream.time_base or 1)
        self._origin = origin(self._container)
        self._usual = 1 / self.rate if self.rate else Fraction(0)
        self.scale = math.lcm(*(part.denominator for part in (self._base, self._origin, self._usual)))
        self.stopped: str | None = None

    def frames(self) -> Iterator[Frame]:
        """All frames that can be decoded, in the order in which they are shown; all are turned as the first one is."""
        # Whole numbers: arithmetic on Fractions took a tenth of the time of decoding.
        tick, zero, each = (int(part * self.scale) for part in (self._base, self._origin, self._usual))
        end = 0
        turned: Turn | None = None
        for number, image in enumerate(self._images()):
            turned = turned if number else turn(image)
            stamp = image.pts if image.pts is not None else image.dts
            # A stream without time stamps (raw video, some AVIs) shows each frame for the usual time.
            begin = stamp * tick - zero if stamp is not None else end
            end = begin + (image.duration * tick if image.duration else each)
            yield Frame(begin=begin, end=end, scale=self.scale, image=image, turn=turned)

    def _images(self) -> Iterator["av.VideoFrame"]:
        import av

        packets = self._container.demux(self._stream)
        while True:
            packet = None
            try:
                packet = next(packets)
                if packet.is_keyframe:
                    self._keys.append(self._time(packet))
                images = packet.decode()
            except StopIteration:
                return
            except av.FFmpegError as error:
                raise_resource_error(error)
                if isinstance(error, av.error.InvalidDataError) and packet is not None:
                    self._broken.append(self._time(packet))
                    continue
                self.stopped = str(error.strerror)
                return
            yield from images

    def _time(self, packet: "av.Packet[av.VideoStream]") -> Fraction:
        stamp = packet.pts if packet.pts is not None else packet.dts
        return (stamp or 0) * self._base - self._origin

    def damage(self, start: Fraction, end: Fraction) -> str | None:
        """What could not be decoded of the packets that the frames with start <= t < end are made of.

        They begin at the last key frame before: a lost picture shows in all that are predicted from it. The number
        depends on the file and the span alone, not on how far beyond the span the file has been read.
        """
        begin = max((time for time in self._keys if time <= start), default=Fraction(0))
        broken = sum(begin <= time < end for time in self._broken)
        return f"{broken} packets could not be decoded" if broken else None

    def close(self) -> None:
        """Release the file."""
        self._container.close()


def origin(container: "av.container.InputContainer") -> Fraction:
    """The container's start in seconds. FFmpeg gives it in whole microseconds: the stream that it is from is exact."""
    start = Fraction(container.start_time or 0, 1_000_000)
    times = [(stream.start_time, stream.time_base) for stream in container.streams]
    exact = [first * base for first, base in times if first is not None and base is not None]
    return min((moment for moment in exact if abs(moment - start) <= Fraction(1, 1_000_000)), default=start)

"""Decode a video file to frames with exact presentation times.

The frames are identical on every CPU: the flag `bitexact` switches off the decoder's approximate SIMD code.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mesm_data.errors import MesmError
from mesm_data.media.containers import exact_number, is_empty, open_container
from mesm_data.media.frame import Frame, Orientation, read_orientation
from mesm_data.media.toolchain import describe_error
from mesm_data.storage.machine_errors import raise_resource_error

if TYPE_CHECKING:
    import av


# Time stamps that jump by more than this belong to another recording; the ffmpeg command closes the gap in the sound.
# In seconds: backwards; forwards in formats with discontinuous time stamps (transport streams); forwards in others.
_STEP_BACK, _STEP_AHEAD, _LONGEST_GAP = Fraction(1, 10), Fraction(10), Fraction(30 * 3600)


class TimestampSelector:
    """Selects the time stamp of each decoded frame by FFmpeg's best-effort rule.

    This is the presentation time (pts). It is the decoding time (dts) where pts is missing, as in AVI, or has stepped
    back more often than dts: files copied from AVI have pts in coding order.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._steps_back = {"pts": 0, "dts": 0}

    def select(self, pts: int | None, dts: int | None) -> int | None:
        """The time stamp of the next frame; None if the frame has none."""
        for name, stamp, substitute in (("dts", dts, pts), ("pts", pts, dts)):
            if stamp is not None and name in self._last:
                self._steps_back[name] += stamp <= self._last[name]
            known = stamp if stamp is not None else substitute
            if known is not None:
                self._last[name] = known
        if pts is None or (dts is not None and self._steps_back["pts"] > self._steps_back["dts"]):
            return dts
        return pts


class Video:
    """The first video stream of a file that is not a cover image, decoded once from start to end.

    All times are whole numbers of 1 / `scale` seconds and never decrease. Decoding stops where the time stamps start
    again, as in two recordings that were joined: what follows has no common time with the sound.

    Attributes:
        rate: Frames per second, 0 if unknown.
        stopped: After the pass, the reason why the file could not be read to its end, if any.

    Raises:
        MesmError: The file is not a video that can be decoded.
    """

    def __init__(self, path: Path) -> None:
        import av
        from av.codec.context import Flags as CodecFlags
        from av.format import Flags
        from av.stream import Disposition

        try:
            self._container = open_container(path)
        except (av.FFmpegError, OSError) as error:
            raise_resource_error(error)
            raise MesmError(f"not a video that can be opened ({describe_error(error)})") from None
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
        stream.codec_context.flags |= CodecFlags.bitexact
        stream.codec_context.thread_count = 1
        self.rate = exact_number(stream.average_rate) or exact_number(stream.guessed_rate)
        self._broken: list[Fraction] = []  # times of packets that could not be decoded
        self._damaged: list[Fraction] = []  # times of frames of which the decoder has guessed a part
        self._disordered: list[Fraction] = []  # times of frames that came after later ones
        self._keys: list[Fraction] = []  # times of key frames
        self._base = exact_number(stream.time_base) or Fraction(1)
        self._origin = container_start(self._container)
        self._usual = 1 / self.rate if self.rate else Fraction(0)
        may_leap = self._container.format.flags & cast(int, Flags.ts_discont.value)
        self._longest_gap = _STEP_AHEAD if may_leap else _LONGEST_GAP
        self.scale = math.lcm(*(part.denominator for part in (self._base, self._origin, self._usual)))
        self.stopped: str | None = None

    def frames(self) -> Iterator[Frame]:
        """Yield all frames that can be decoded, in presentation order. All have the orientation of the first one."""
        # Whole numbers: arithmetic with Fractions took a tenth of the decoding time.
        tick, zero, each = (int(part * self.scale) for part in (self._base, self._origin, self._usual))
        back, ahead = (int(step * self.scale) for step in (_STEP_BACK, self._longest_gap))
        last, end = -math.inf, 0
        stamps = TimestampSelector()
        orientation: Orientation | None = None
        for number, (image, shown) in enumerate(self._images()):
            orientation = orientation if number else read_orientation(image)
            stamp = stamps.select(shown.pts, shown.dts)
            # In a stream without time stamps (raw video) each frame is shown for the usual duration.
            begin = stamp * tick - zero if stamp is not None else end
            if number and (begin < last - back or begin > end + ahead):
                self.stopped = "its time stamps begin anew there"
                return
            if begin < last:
                self._disordered.append(Fraction(begin, self.scale))
                continue
            if image.is_corrupt:
                self._damaged.append(Fraction(begin, self.scale))
            last, end = begin, begin + (shown.duration * tick if shown.duration else each)
            yield Frame(begin=begin, end=end, scale=self.scale, image=image, orientation=orientation)

    def _images(self) -> Iterator[tuple["av.VideoFrame", "av.VideoFrame | av.Packet[av.VideoStream]"]]:
        """Yield each image with what has its time stamps: itself, or a packet that shows it once more."""
        import av

        packets = self._container.demux(self._stream)
        shown: list[tuple[av.VideoFrame, av.VideoFrame | av.Packet[av.VideoStream]]] = []
        while True:
            packet = None
            try:
                packet = next(packets)
                if packet.is_keyframe:
                    self._keys.append(self._time(packet))
                if is_empty(packet):  # Theora repeats a picture so
                    shown = [(image, packet) for image, _ in shown[-1:]]
                else:
                    shown = [(image, image) for image in packet.decode()]
            except StopIteration:
                return
            except av.FFmpegError as error:
                raise_resource_error(error)
                if isinstance(error, av.error.InvalidDataError) and packet is not None:
                    self._broken.append(self._time(packet))
                    continue
                self.stopped = describe_error(error)
                return
            yield from shown

    def _time(self, packet: "av.Packet[av.VideoStream]") -> Fraction:
        stamp = packet.pts if packet.pts is not None else packet.dts
        return (stamp or 0) * self._base - self._origin

    def damage(self, start: Fraction, end: Fraction) -> str | None:
        """Describe what could not be decoded or is out of order in start <= t < end; None if nothing is.

        The packets and frames since the last key frame before `start` count too: a lost or damaged frame damages all
        frames that are predicted from it. The result depends on the file and the span alone, not on how far the file
        has been read.
        """
        begin = max((time for time in self._keys if time <= start), default=Fraction(0))
        broken = sum(begin <= time < end for time in self._broken)
        damaged = sum(begin <= time < end for time in self._damaged)
        disordered = sum(start <= time < end for time in self._disordered)
        problems = [f"{broken} packets could not be decoded"] if broken else []
        problems += [f"{damaged} pictures are damaged"] if damaged else []
        problems += [f"{disordered} pictures are out of order"] if disordered else []
        return " and ".join(problems) or None

    def close(self) -> None:
        """Release the file."""
        self._container.close()


def container_start(container: "av.container.InputContainer") -> Fraction:
    """The start of the container in seconds, from the stream that it comes from: FFmpeg rounds it to microseconds."""
    start = Fraction(container.start_time or 0, 1_000_000)
    times = [(stream.start_time, exact_number(stream.time_base)) for stream in container.streams]
    exact = [first * base for first, base in times if first is not None and base]
    return min((moment for moment in exact if abs(moment - start) <= Fraction(1, 1_000_000)), default=start)

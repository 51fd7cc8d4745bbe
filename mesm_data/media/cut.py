"""Which frames belong to which utterance: one pass over the video, any number of overlapping utterances."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from mesm_data.media.video import Frame


class FrameSource(Protocol):
    """Anything that shows frames in order; mesm_data.media.video.Video is one."""

    def frames(self) -> Iterator[Frame]:
        """All frames, once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An utterance in seconds of the video: start <= t < end."""

    start: Fraction
    end: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One frame for the utterance `index`: asked for `ticks` times by the grid, and inside the span or not."""

    index: int
    frame: Frame
    ticks: int
    inside: bool


class Cutter:
    """Hands out the frames of a video to spans.

    The grid of a span asks at start + k * interval for every k with start + k * interval < min(end, end of video), and
    gets the first frame whose time is at or after that; the last frame stands for its own duration. All arithmetic is
    rational. After the pass `end` is the end of the video, or None if no span needed it.
    """

    def __init__(self, video: FrameSource, spans: Sequence[Span], interval: Fraction) -> None:
        self._video, self._spans, self._interval = video, spans, interval
        self._target = [span.start for span in spans]  # the next moment that each grid asks for
        self.end: Fraction | None = None

    def __iter__(self) -> Iterator[Cut]:
        waiting = sorted(range(len(self._spans)), key=lambda index: self._spans[index].start, reverse=True)
        live: list[int] = []
        last: Frame | None = None
        for frame in self._video.frames():
            while waiting and self._spans[waiting[-1]].start <= frame.time:
                live.append(waiting.pop())
            for index in live:
                span = self._spans[index]
                ticks = self._ticks(index, frame.time, closed=True)
                inside = frame.time < span.end
                if ticks or inside:
                    yield Cut(index=index, frame=frame, ticks=ticks, inside=inside)
            live = [index for index in live if frame.time < self._spans[index].end]
            last = frame
            if not waiting and not live:
                return
        self.end = last.until if last else Fraction(0)
        for index in (*live, *reversed(waiting)):
            ticks = self._ticks(index, self.end, closed=False)
            if last and ticks:
                yield Cut(index=index, frame=last, ticks=ticks, inside=False)

    def _ticks(self, index: int, time: Fraction, *, closed: bool) -> int:
        """How many moments of the grid lie up to `time` (with it, if closed) and have not been answered yet."""
        ticks = 0
        while self._target[index] < self._spans[index].end and (
            self._target[index] < time or (closed and self._target[index] == time)
        ):
            self._target[index] += self._interval
            ticks += 1
        return ticks

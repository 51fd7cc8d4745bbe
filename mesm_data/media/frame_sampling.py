"""Which frames belong to which utterance: one pass over the video, any number of overlapping utterances."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from mesm_data.media.frame import Frame


class FrameSource(Protocol):
    """Anything that shows frames in order; mesm_data.media.video.Video is one.

    The `scale` of all its frames is the same.
    """

    scale: int

    def frames(self) -> Iterator[Frame]:
        """All frames, once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSpan:
    """An utterance in seconds of the video: start <= t < end."""

    start: Fraction
    end: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledFrame:
    """One frame for the utterance `index`: asked for `ticks` times by the grid, and inside the span or not."""

    index: int
    frame: Frame
    ticks: int
    inside: bool


class FrameSampler:
    """Hands out the frames of a video to spans.

    The grid of a span asks at start + k * interval for every k with start + k * interval < min(end, end of video), and
    gets the first frame whose time is at or after that; the last frame stands for its own duration. All arithmetic is
    exact: in whole numbers of a unit that divides every time. After the pass `end` is the end of the video, or None if
    no span needed it.
    """

    def __init__(self, video: FrameSource, spans: Sequence[TimeSpan], interval: Fraction) -> None:
        times = [interval, *(time for span in spans for time in (span.start, span.end))]
        self._unit = math.lcm(video.scale, *(time.denominator for time in times))
        self._video, self._scale = video, self._unit // video.scale
        self._interval = self._whole(interval)
        self._starts = [self._whole(span.start) for span in spans]
        self._ends = [self._whole(span.end) for span in spans]
        self._target = list(self._starts)  # the next moment that each grid asks for
        self.end: Fraction | None = None

    def __iter__(self) -> Iterator[SampledFrame]:
        waiting = sorted(range(len(self._starts)), key=self._starts.__getitem__, reverse=True)
        live: list[int] = []
        last: Frame | None = None
        for frame in self._video.frames():
            now = frame.begin * self._scale
            while waiting and self._starts[waiting[-1]] <= now:
                live.append(waiting.pop())
            for index in live:
                ticks = self._ticks(index, now + 1)
                inside = self._starts[index] <= now < self._ends[index]
                if ticks or inside:
                    yield SampledFrame(index=index, frame=frame, ticks=ticks, inside=inside)
            live = [index for index in live if now < self._ends[index]]
            last = frame
            if not waiting and not live:
                return
        self.end = last.until if last else Fraction(0)
        for index in (*live, *reversed(waiting)):
            ticks = self._ticks(index, (last.end if last else 0) * self._scale)
            if last and ticks:
                yield SampledFrame(index=index, frame=last, ticks=ticks, inside=False)

    def _whole(self, time: Fraction) -> int:
        """A time in units."""
        return time.numerator * (self._unit // time.denominator)

    def _ticks(self, index: int, time: int) -> int:
        """How many moments of the grid lie before `time` and have not been answered yet."""
        ahead = min(time, self._ends[index]) - self._target[index]
        ticks = max(-(-ahead // self._interval), 0)
        self._target[index] += ticks * self._interval
        return ticks

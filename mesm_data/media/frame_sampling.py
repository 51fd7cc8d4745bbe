"""Assign frames to utterances in one pass over the video, for any number of overlapping utterances."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from mesm_data.media.frame import Frame


class FrameSource(Protocol):
    """A source of frames in the order of their times, such as `Video`. All frames have the same `scale`."""

    scale: int

    def frames(self) -> Iterator[Frame]:
        """Yield all frames, once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSpan:
    """The span of an utterance in seconds of the video: start <= t < end."""

    start: Fraction
    end: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledFrame:
    """A frame of one utterance.

    Attributes:
        index: The number of the utterance.
        frame: The frame.
        grid_hits: The number of points of the utterance's sampling grid that the frame stands for.
        in_span: Whether the frame's time lies in the utterance's span.
    """

    index: int
    frame: Frame
    grid_hits: int
    in_span: bool


class FrameSampler:
    """Yields the frames of a video that the spans need.

    The sampling grid of a span has the points start + k * interval that lie before the end of the span and of the
    video. The first frame at or after a point stands for it; the last frame stands for all points before its own end.
    All arithmetic is exact: times are whole numbers of a unit that divides every time.

    Args:
        video: The source of frames.
        spans: The spans, in seconds of the video.
        interval: Seconds between two points of the grid.

    Attributes:
        begin: The time of the first frame in seconds; None if there is none yet.
        end: After the pass, the end of the video in seconds; None if decoding stopped after the last span.
    """

    def __init__(self, video: FrameSource, spans: Sequence[TimeSpan], interval: Fraction) -> None:
        times = [interval, *(time for span in spans for time in (span.start, span.end))]
        self._unit = math.lcm(video.scale, *(time.denominator for time in times))
        self._video, self._scale = video, self._unit // video.scale
        self._interval = self._to_units(interval)
        self._starts = [self._to_units(span.start) for span in spans]
        self._ends = [self._to_units(span.end) for span in spans]
        self._next_points = list(self._starts)  # of each grid, the first point without a frame
        self.begin: Fraction | None = None
        self.end: Fraction | None = None

    def __iter__(self) -> Iterator[SampledFrame]:
        pending = sorted(range(len(self._starts)), key=self._starts.__getitem__, reverse=True)
        active: list[int] = []
        last: Frame | None = None
        for frame in self._video.frames():
            now = frame.begin * self._scale
            if last is None:
                self.begin = frame.time
            while pending and self._starts[pending[-1]] <= now:
                active.append(pending.pop())
            for index in active:
                hits = self._count_hits(index, now + 1)
                in_span = self._starts[index] <= now < self._ends[index]
                if hits or in_span:
                    yield SampledFrame(index=index, frame=frame, grid_hits=hits, in_span=in_span)
            active = [index for index in active if now < self._ends[index]]
            last = frame
            if not pending and not active:
                return
        self.end = last.end_time if last else Fraction(0)
        for index in (*active, *reversed(pending)):
            hits = self._count_hits(index, (last.end if last else 0) * self._scale)
            if last and hits:
                yield SampledFrame(index=index, frame=last, grid_hits=hits, in_span=False)

    def _to_units(self, time: Fraction) -> int:
        """A time as a whole number of units."""
        return time.numerator * (self._unit // time.denominator)

    def _count_hits(self, index: int, time: int) -> int:
        """Count the points of a grid before `time` that no frame stands for yet, and move on behind them."""
        ahead = min(time, self._ends[index]) - self._next_points[index]
        hits = max(-(-ahead // self._interval), 0)
        self._next_points[index] += hits * self._interval
        return hits

"""One video source, what to extract from it, and the collector of an utterance's faces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mesm_data.media.clip_encoder import ClipSet
from mesm_data.media.faces.crop import FaceCrop, FaceCropper
from mesm_data.media.frame_sampling import FrameSource, SampledFrame, TimeSpan
from mesm_data.media.options import MediaOptions
from mesm_data.media.pixels import frame_size, region_columns, to_rgb
from mesm_data.schema.recordings import Utterance


class FrameStream(FrameSource, Protocol):
    """A video file, or a folder of images, decoded once. `stopped` is set after the pass."""

    rate: Fraction
    stopped: str | None

    def damage(self, start: Fraction, end: Fraction) -> str | None:
        """Describe what could not be decoded from `start` to `end`, after the pass; None if nothing is missing."""
        ...

    def close(self) -> None:
        """Release the files."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionJob:
    """One video source and what to extract from it.

    Attributes:
        open: Opens the source.
        name: The name of the source in messages and records.
        utterances: The utterances that the source shows.
        spans: The span of each utterance, in seconds of the source.
        sounds: The sound of each utterance, int16 (n,), for its clip.
        options: The options of the recipe.
        scratch: The folder for clips.
        cropper: Crops the faces.
        clip_prefix: The beginning of the clips' file names.
    """

    open: Callable[[], FrameStream]
    name: str
    utterances: Sequence[Utterance]
    spans: Sequence[TimeSpan]
    sounds: Sequence[NDArray[np.int16]]
    options: MediaOptions
    scratch: Path
    cropper: FaceCropper
    clip_prefix: str = ""

    @property
    def interval(self) -> Fraction:
        """Seconds between two points of the sampling grid."""
        return Fraction(self.options.frame_interval)

    def subset(self, indices: Sequence[int]) -> "ExtractionJob":
        """The job for some of the utterances; its clips have names of their own."""
        return replace(
            self,
            utterances=[self.utterances[index] for index in indices],
            spans=[self.spans[index] for index in indices],
            sounds=[self.sounds[index] for index in indices],
            clip_prefix=f"{self.clip_prefix}{indices[0]}-",
        )

    def clip_set(self) -> ClipSet:
        """The encoders of the job's clips."""
        return ClipSet(self.scratch, self.spans, self.sounds, rate=self.options.sample_rate, prefix=self.clip_prefix)

    def columns(self, sampled: SampledFrame) -> tuple[int, int]:
        """The columns [left, right) of a frame that show the utterance's speaker."""
        return region_columns(self.utterances[sampled.index].region, frame_size(sampled.frame)[0])


class FaceTrack:
    """Collects the face crops of one utterance while its source is decoded."""

    def __init__(self, job: ExtractionJob, index: int) -> None:
        self._job, self._utterance, self._start = job, job.utterances[index], job.spans[index].start
        self.faces: list[FaceCrop] = []
        self.times: list[float] = []
        self.size: tuple[int, int] | None = None
        self.fps: float | None = None
        self._max_delay = Fraction(0)

    @property
    def has_gap(self) -> bool:
        """Whether a frame came more than one interval later than the grid point that it stands for."""
        return self._max_delay > self._job.interval

    def add(self, sampled: SampledFrame, rate: Fraction) -> None:
        """Crop the face of a frame, once for all grid points that the frame stands for."""
        left, right = self._job.columns(sampled)
        height = frame_size(sampled.frame)[1]
        time = sampled.frame.time - self._start
        self.size, self.fps = (right - left, height), round(float(rate), 6)
        self._max_delay = max(self._max_delay, time - len(self.faces) * self._job.interval)
        side = min(round(self._utterance.region.square * height), right - left, height)
        image = to_rgb(sampled.frame, left, right)
        face = self._job.cropper.crop(image, self._utterance.key, len(self.faces), square=side)
        self.faces += [face] * sampled.grid_hits
        self.times += [round(float(time), 4)] * sampled.grid_hits

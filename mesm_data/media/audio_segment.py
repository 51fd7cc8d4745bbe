"""The sound of an utterance, and the sound that each of its sources has for it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mesm_data.media.sound_track import SampleBlock
from mesm_data.schema.recordings import AudioSource

# The length of an utterance's own file differs from its annotation: by up to 3 samples in IEMOCAP, by a packet in
# compressed files, and clips are cut at key frames. If less than this is missing, no other source is tried.
MAX_MISSING, MAX_EXCESS = 0.1, 0.5  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSegment:
    """The sound of one utterance.

    Attributes:
        samples: int16 (n,) at the reader's rate.
        status: ok, partial (the sound begins late, ends early or has a gap) or none.
        sample_rate: The sample rate of the source in Hz.
        source: The source; None if there is no sound.
        problems: Why a source could not be used, or not completely.
        channels: The number of channels of the source.
    """

    samples: NDArray[np.int16]
    status: str
    sample_rate: int | None
    source: AudioSource | None
    problems: tuple[str, ...]
    channels: int = 0

    @property
    def is_silent(self) -> bool:
        """Whether there are samples and all are 0: digital silence, which no microphone records."""
        return len(self.samples) > 0 and not self.samples.any()


def no_audio(*problems: str) -> AudioSegment:
    """The result for an utterance without sound."""
    nothing = np.zeros(0, np.int16)
    return AudioSegment(samples=nothing, status="none", sample_rate=None, source=None, problems=problems)


class DecodedAudio(NamedTuple):
    """The part of a file that contains an utterance.

    Attributes:
        samples: int16 (n, channels) at the reader's rate.
        sample_rate: The sample rate of the file in Hz.
        missing: The number of samples that lie in gaps of the track or before it begins.
        stopped: Why the file could not be read to its end, if so.
    """

    samples: SampleBlock
    sample_rate: int
    missing: int = 0
    stopped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCandidate:
    """The sound that one source has for an utterance.

    Attributes:
        source: The source.
        file: The decoded part of its file.
        samples: int16 (n,) at `rate` Hz: the source's channel, or the mean of all channels.
        expected: The length of the utterance in samples; the length of `samples` if it is unknown.
        rate: The sample rate in Hz.
    """

    source: AudioSource
    file: DecodedAudio
    samples: NDArray[np.int16]
    expected: int
    rate: int

    @property
    def covered(self) -> int:
        """The number of samples of the utterance that the source has."""
        return min(len(self.samples), self.expected) - self.file.missing

    @property
    def is_too_long(self) -> bool:
        """Whether the file is so much longer than the utterance that it may contain something else."""
        return len(self.samples) >= self.expected + MAX_EXCESS * self.rate

    @property
    def is_complete(self) -> bool:
        """Whether the source has the whole utterance: to the sample if it is cut from a longer file.

        The tracks of a file do not end at the same sample, so the end of the file is no such cut.
        """
        is_cut = self.source.span is not None and not self.source.is_open
        return self.expected - self.covered <= (0 if is_cut else MAX_MISSING * self.rate)

    @property
    def is_silent(self) -> bool:
        """Whether all samples are 0."""
        return not self.samples.any()

    @property
    def is_sufficient(self) -> bool:
        """Whether no other source needs to be tried."""
        return self.expected - self.covered <= MAX_MISSING * self.rate and not self.is_too_long and not self.is_silent

    def problem(self) -> str | None:
        """Describe what is missing, or that the file is too long; None if the source is right."""
        stopped = f" ({self.file.stopped})" if self.file.stopped else ""
        seconds, expected = len(self.samples) / self.rate, self.expected / self.rate
        if not len(self.samples):
            return f"holds no sound for this utterance{stopped}"
        if self.is_too_long:
            return f"lasts {seconds:.3f} s or more, the utterance {expected:.3f} s"
        if self.is_complete:
            return None
        if self.file.missing > self.expected - len(self.samples):
            lacking = self.file.missing / self.rate
            return f"lacks {lacking:.3f} s of the utterance's sound (its track has a hole, or begins late)"
        if self.source.span is None:
            return f"lasts {seconds:.3f} s{stopped}, the utterance {expected:.3f} s"
        return f"ends at {self.source.span[0] + seconds:.3f} s{stopped}, the utterance at {self.source.span[1]:.3f} s"

"""An utterance's sound: mono 16-bit at the recipe's sample rate (default 16 kHz), cut by sample.

soundfile reads what is 16-bit PCM of that rate already (RIFF, WAVE_FORMAT_EXTENSIBLE, NIST/SPHERE, ...), bit for bit;
ffmpeg converts everything else (mesm_data.media.sound_track), the sound track of a video too.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import MesmError
from mesm_data.media.sound_track import (
    END_OF_TRACK,
    SampleBlock,
    SampleSpan,
    SoundTrack,
    decode_track,
    mix_down,
    to_sample_index,
)
from mesm_data.media.toolchain import describe_error
from mesm_data.media.wav import SAMPLE_RATE
from mesm_data.schema.recordings import AudioSource, Utterance
from mesm_data.storage.files import open_regular_file
from mesm_data.storage.machine_errors import raise_resource_error

# The file of one utterance need not have the length of its annotation to the sample: IEMOCAP's differ by up to 3
# samples, compressed ones by a packet, and clips are cut at key frames. For less than this no other source is tried.
_MISSING, _EXCESS = 0.1, 0.5  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSegment:
    """`samples`: int16 (n,) at the reader's rate. `status`: ok, partial (the sound ends before the utterance) or none.

    `sample_rate` and `channels` are the source's own; `problems` says why a source could not be used, or not in full.
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


class DecodedAudio(NamedTuple):
    """The part of a file that holds an utterance: int16 (n, channels) at 16 kHz, and the file's own sample rate.

    `missing` samples of it lie in holes of the track; `stopped` says why the file could not be read to its end, if so.
    """

    samples: SampleBlock
    sample_rate: int
    missing: int = 0
    stopped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCandidate:
    """What one source holds of an utterance: `samples` int16 (n,) at `rate` Hz of its channel, or the mean of all.

    `expected` is the number of samples that the utterance lasts, `samples` counts as that where it is not known.
    """

    source: AudioSource
    file: DecodedAudio
    samples: NDArray[np.int16]
    expected: int
    rate: int

    @property
    def covered(self) -> int:
        """How many samples of the utterance are there."""
        return min(len(self.samples), self.expected) - self.file.missing

    @property
    def is_too_long(self) -> bool:
        """Whether a file of one utterance lasts so much longer that it may hold something else."""
        return len(self.samples) >= self.expected + _EXCESS * self.rate

    @property
    def is_complete(self) -> bool:
        """Whether the utterance is there: to the sample where it is cut from a longer file."""
        return self.expected - self.covered <= (0 if self.source.span else _MISSING * self.rate)

    @property
    def is_silent(self) -> bool:
        """Whether all samples are 0."""
        return not self.samples.any()

    @property
    def fits(self) -> bool:
        """Whether no other source needs to be tried."""
        return self.expected - self.covered <= _MISSING * self.rate and not self.is_too_long and not self.is_silent

    def problem(self) -> str | None:
        """What of the utterance is not there, or too much, in words; None if nothing is."""
        stopped = f" ({self.file.stopped})" if self.file.stopped else ""
        seconds, expected = len(self.samples) / self.rate, self.expected / self.rate
        if not len(self.samples):
            return f"holds no sound for this utterance{stopped}"
        if self.is_too_long:
            return f"lasts {seconds:.3f} s or more, the utterance {expected:.3f} s"
        if self.is_complete:
            return None
        if len(self.samples) >= self.expected:
            return f"lacks {self.file.missing / self.rate:.3f} s of the utterance's sound (a hole in the track)"
        if self.source.span is None:
            return f"lasts {seconds:.3f} s{stopped}, the utterance {expected:.3f} s"
        return f"ends at {self.source.span[0] + seconds:.3f} s{stopped}, the utterance at {self.source.span[1]:.3f} s"


class AudioReader:
    """Reads the sound of one recording's `utterances`: a file that must be converted is converted once for them all."""

    def __init__(self, root: Path, utterances: Iterable[Utterance] = (), rate: int = SAMPLE_RATE) -> None:
        self._root, self.rate = root, rate
        self._sources: dict[str, list[tuple[AudioSource, SampleSpan]]] = {}
        for utterance in utterances:
            for source in utterance.audio:
                self._sources.setdefault(source.path, []).append(
                    (source, requested_span(source, utterance_duration(utterance), rate))
                )
        self._tracks: dict[str, SoundTrack] = {}

    def read(self, sources: Sequence[AudioSource], length: Fraction | None = None) -> AudioSegment:
        """The first source that covers the utterance, else that which covers most; and what is wrong with the others.

        `length` are the utterance's seconds: a file of it alone is held against them. A source of digital silence is
        taken only if no other has sound. Raises OSError if the machine fails, never for what is wrong with a source.
        """
        problems = [] if sources else ["no sound file"]
        takes: list[AudioCandidate] = []
        for source in sources:
            try:
                take = self.take(source, length)
            except MesmError as error:
                problems.append(f"{source.path}: {error}")
                continue
            if problem := take.problem():
                problems.append(f"{source.path}: {problem}")
            takes += [take] if len(take.samples) else []
            if take.fits:
                break
        best = max(takes, key=lambda take: (not take.is_silent, take.covered, not take.is_too_long), default=None)
        if best is None:
            nothing = np.zeros(0, np.int16)
            return AudioSegment(samples=nothing, status="none", sample_rate=None, source=None, problems=tuple(problems))
        if not best.is_silent:
            problems += [f"{take.source.path}: holds only digital silence here" for take in takes if take.is_silent]
        return AudioSegment(
            samples=best.samples,
            status="ok" if best.is_complete else "partial",
            sample_rate=best.file.sample_rate,
            source=best.source,
            problems=tuple(problems),
            channels=best.file.samples.shape[1],
        )

    def take(self, source: AudioSource, length: Fraction | None = None) -> AudioCandidate:
        """What a source holds of an utterance of `length` seconds. Raises MesmError if the file cannot be used."""
        file = self.channels(source, length)
        channels = file.samples.shape[1]
        if source.channel is None:
            samples = mix_down(file.samples, (1,) * channels)
        else:  # a file with fewer channels is all that there is
            samples = np.ascontiguousarray(file.samples[:, min(source.channel, channels - 1)])
        if source.span:
            start, stop = to_sample_span(source.span, self.rate)
            expected = stop - start
        else:
            expected = max(len(samples), 1) if length is None else to_sample_index(length, self.rate)
        return AudioCandidate(source=source, file=file, samples=samples, expected=expected, rate=self.rate)

    def channels(self, source: AudioSource, length: Fraction | None = None) -> DecodedAudio:
        """All channels of a source's part; of a file of one utterance of `length` seconds, half a second more at most.

        Spans are seconds of the container. Raises MesmError if the file cannot be used, OSError if the machine fails.
        """
        import soundfile

        path = self._root / source.path
        try:
            open_regular_file(path).close()  # libsndfile calls whatever keeps it from opening a file a "System error"
        except OSError as error:
            raise_resource_error(error)
            raise MesmError(describe_error(error)) from None
        start, stop = requested_span(source, length, self.rate)
        try:
            info = soundfile.info(os.fsencode(path))
        except soundfile.LibsndfileError:
            info = None  # not a sound file for it: ffmpeg reads more
        # A length of 0 is that of a writer that was killed: ffmpeg reads on to the end of the file.
        # What the channels of a surround recording are, only ffmpeg says.
        is_plain = info is not None and info.subtype == "PCM_16" and (source.channel is not None or info.channels <= 2)
        if info is not None and is_plain and info.samplerate == self.rate and info.frames:
            try:
                samples, _ = soundfile.read(
                    os.fsencode(path), start=min(start, info.frames), stop=stop, dtype="int16", always_2d=True
                )
            except soundfile.LibsndfileError as error:
                raise MesmError(f"cannot be read ({str(error).rsplit(': ', 1)[-1].rstrip('.')})") from None
            return DecodedAudio(samples, self.rate)
        track = self._track(source, (start, stop))
        return DecodedAudio(track.cut(start, stop), track.sample_rate, track.missing(start, stop), track.stopped)

    def _track(self, source: AudioSource, span: SampleSpan) -> SoundTrack:
        """The converted file of a source, with `span` in it. Those that hold several utterances are kept."""
        known = self._tracks.get(source.path)
        if known and known.holds(*span):
            return known
        uses = [*self._sources.get(source.path, ()), (source, span)]
        mix = all(use.channel is None for use, _ in uses)
        track = decode_track(self._root / source.path, [span for _, span in uses], self.rate, mix=mix)
        if source.span:
            self._tracks[source.path] = track
        return track


def utterance_duration(utterance: Utterance) -> Fraction | None:
    """The seconds that an utterance lasts, None if its times are no interval."""
    length = Fraction(repr(utterance.end)) - Fraction(repr(utterance.start))
    return length if length > 0 else None


def requested_span(source: AudioSource, length: Fraction | None, rate: int) -> SampleSpan:
    """The samples [start, stop) of a source that are read for an utterance of `length` seconds."""
    if source.span:
        return to_sample_span(source.span, rate)
    return 0, END_OF_TRACK if length is None else to_sample_index(length, rate) + round(_EXCESS * rate)


def to_sample_span(span: tuple[float, float], rate: int) -> tuple[int, int]:
    """Seconds to samples at `rate` Hz: [start, stop), each rounded to the nearest sample, halves up."""
    start, stop = (to_sample_index(Fraction(repr(second)), rate) for second in span)
    return max(start, 0), max(stop, start, 0)

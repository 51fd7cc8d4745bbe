"""Read the sound of an utterance: mono, 16-bit, at the recipe's sample rate (default 16 kHz), cut to the sample.

soundfile reads files that already are 16-bit PCM of that rate (RIFF, WAVE_FORMAT_EXTENSIBLE, NIST/SPHERE, ...), bit for
bit. ffmpeg converts all others, and sound tracks of videos (mesm_data.media.sound_track).
"""

import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from mesm_data.errors import MesmError
from mesm_data.media.audio_segment import MAX_EXCESS, AudioCandidate, AudioSegment, DecodedAudio, no_audio
from mesm_data.media.downmix import mix_down
from mesm_data.media.sound_track import END_OF_TRACK, SampleSpan, SoundTrack, decode_track, to_sample_index
from mesm_data.media.toolchain import describe_error
from mesm_data.media.wav import SAMPLE_RATE
from mesm_data.schema.recordings import AudioSource, Utterance
from mesm_data.storage.files import open_regular_file
from mesm_data.storage.machine_errors import raise_resource_error


class AudioReader:
    """Reads the sound of one recording's utterances. A file that must be converted is converted once for all of them.

    Args:
        root: The folder of the corpus.
        utterances: The utterances.
        rate: The sample rate of the result in Hz.
    """

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
        """Read the first source that covers the utterance, else the one that covers most of it.

        A source of digital silence is used only if no other source has sound.

        Args:
            sources: The sources in the order of preference.
            length: The length of the utterance in seconds, which the length of its own file is compared with.

        Returns:
            The sound, and the problems of all sources that were tried.

        Raises:
            OSError: The machine failed. What is wrong with a source raises nothing.
        """
        problems = [] if sources else ["no sound file"]
        candidates: list[AudioCandidate] = []
        for source in sources:
            try:
                candidate = self.read_candidate(source, length)
            except MesmError as error:
                problems.append(f"{source.path}: {error}")
                continue
            if problem := candidate.problem():
                problems.append(f"{source.path}: {problem}")
            candidates += [candidate] if len(candidate.samples) else []
            if candidate.is_sufficient:
                break
        best = max(
            candidates,
            key=lambda candidate: (not candidate.is_silent, candidate.covered, not candidate.is_too_long),
            default=None,
        )
        if best is None:
            return no_audio(*problems)
        if not best.is_silent:
            silent = (candidate.source.path for candidate in candidates if candidate.is_silent)
            problems += [f"{path}: holds only digital silence here" for path in silent]
        return AudioSegment(
            samples=best.samples,
            status="ok" if best.is_complete else "partial",
            sample_rate=best.file.sample_rate,
            source=best.source,
            problems=tuple(problems),
            channels=best.file.samples.shape[1],
        )

    def read_candidate(self, source: AudioSource, length: Fraction | None = None) -> AudioCandidate:
        """Read one source of an utterance of `length` seconds. Raises MesmError if the file cannot be used."""
        file = self.read_channels(source, length)
        channels = file.samples.shape[1]
        if source.channel is None:
            samples = mix_down(file.samples, (1,) * channels)
        elif source.channel >= channels > 1:
            raise MesmError(f"has no channel {source.channel + 1}: it has {channels}")
        else:  # a mono file has no other sound
            samples = np.ascontiguousarray(file.samples[:, min(source.channel, channels - 1)])
        if source.span:
            start, stop = to_sample_span(source.span, self.rate)
            expected = stop - start
        else:
            expected = max(len(samples), 1) if length is None else to_sample_index(length, self.rate)
        return AudioCandidate(source=source, file=file, samples=samples, expected=expected, rate=self.rate)

    def read_channels(self, source: AudioSource, length: Fraction | None = None) -> DecodedAudio:
        """Read all channels of a source: its span, or the file, up to half a second more than `length` seconds.

        Raises:
            MesmError: The file cannot be used.
            OSError: The machine failed.
        """
        import soundfile

        path = self._root / source.path
        try:
            open_regular_file(path).close()  # libsndfile reports only "System error" if a file cannot be opened
        except OSError as error:
            raise_resource_error(error)
            raise MesmError(describe_error(error)) from None
        start, stop = requested_span(source, length, self.rate)
        try:
            info = soundfile.info(os.fsencode(path))
        except soundfile.LibsndfileError:
            info = None  # not a format of libsndfile: ffmpeg reads more
        # A length of 0 comes from a killed writer: ffmpeg reads to the end of the file all the same.
        # Only ffmpeg knows which channels a surround recording has.
        is_plain = info is not None and info.subtype == "PCM_16" and (source.channel is not None or info.channels <= 2)
        if info is not None and is_plain and info.samplerate == self.rate and info.frames:
            try:
                samples, _ = soundfile.read(
                    os.fsencode(path), start=min(start, info.frames), stop=stop, dtype="int16", always_2d=True
                )
                return DecodedAudio(samples, self.rate)
            except soundfile.LibsndfileError:
                pass  # a truncated or damaged FLAC file: ffmpeg decodes what is there
        track = self._track(source, (start, stop))
        return DecodedAudio(
            track.cut(start, stop), track.sample_rate, track.missing_samples(start, stop), track.stopped
        )

    def _track(self, source: AudioSource, span: SampleSpan) -> SoundTrack:
        """The converted file of a source, with `span` in it. A file of several utterances is kept in memory."""
        known = self._tracks.get(source.path)
        if known and known.contains(*span):
            return known
        uses = [*self._sources.get(source.path, ()), (source, span)]
        mix = all(use.channel is None for use, _ in uses)
        track = decode_track(self._root / source.path, [span for _, span in uses], self.rate, mix=mix)
        if source.span:
            self._tracks[source.path] = track
        return track


def utterance_duration(utterance: Utterance) -> Fraction | None:
    """The length of an utterance in seconds, None if it does not end after its start."""
    length = Fraction(repr(utterance.end)) - Fraction(repr(utterance.start))
    return length if length > 0 else None


def requested_span(source: AudioSource, length: Fraction | None, rate: int) -> SampleSpan:
    """The samples [start, stop) of a source to read for an utterance of `length` seconds."""
    if source.span:
        return to_sample_span(source.span, rate)
    return 0, END_OF_TRACK if length is None else to_sample_index(length, rate) + round(MAX_EXCESS * rate)


def to_sample_span(span: tuple[float, float], rate: int) -> tuple[int, int]:
    """Convert seconds to samples [start, stop) at `rate` Hz, each rounded to the nearest sample, halves up."""
    start, stop = (to_sample_index(Fraction(repr(second)), rate) for second in span)
    return max(start, 0), max(stop, start, 0)

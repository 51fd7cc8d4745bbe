"""An utterance's sound: 16 kHz mono 16-bit, cut by sample.

soundfile reads what is 16 kHz 16-bit PCM already (RIFF, WAVE_FORMAT_EXTENSIBLE, NIST/SPHERE, ...), bit for bit; ffmpeg
converts everything else, the sound track of a video too. Its SIMD code rounds differently from CPU to CPU, so it runs
without.
"""

import math
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mesm_data.corpora.base import AudioSource
from mesm_data.errors import MesmError
from mesm_data.machine import check_exit, raise_resource_error
from mesm_data.media.tools import ffmpeg_binary
from mesm_data.media.video import origin
from mesm_data.shards.members import SAMPLE_RATE

if TYPE_CHECKING:
    import av


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """`samples`: int16 (n,) at 16 kHz. `status`: ok, partial (the file ends before the utterance) or none.

    `sample_rate` is the source's own; `problems` says why a source could not be used.
    """

    samples: NDArray[np.int16]
    status: str
    sample_rate: int | None
    source: AudioSource | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A whole converted file: `samples` int16 (n, channels) at 16 kHz, of which the first is at sample `lead`.

    `lead` counts from the container's start; `sample_rate` is the file's own.
    """

    samples: NDArray[np.int16]
    lead: int
    sample_rate: int

    def cut(self, start: int, stop: int | None) -> NDArray[np.int16]:
        """The samples [start, stop) of the container's clock, silence before the track's first."""
        stop = self.lead + len(self.samples) if stop is None else stop
        if stop <= self.lead:
            return self.samples[:0]
        found = self.samples[max(start - self.lead, 0) : stop - self.lead]
        silence = np.zeros((max(self.lead - start, 0), found.shape[1]), np.int16)
        return np.concatenate([silence, found]) if len(found) else found


class AudioReader:
    """Reads the sound of one recording's utterances; the last converted file is kept for the next cut.

    Converted files lie in `scratch` (default: the system's folder for temporary files), not in memory.
    """

    def __init__(self, root: Path, scratch: Path | None = None) -> None:
        self._root, self._scratch = root, scratch
        self._converted: tuple[str, Track] | None = None

    def read(self, sources: Sequence[AudioSource]) -> Sound:
        """The first source that can be read, and what was wrong with those before it."""
        problems = [] if sources else ["no sound file"]
        for source in sources:
            try:
                sound, rate, complete = self.cut(source)
            except MesmError as error:
                problems.append(f"{source.path}: {error}")
                continue
            if len(sound) == 0:
                problems.append(f"{source.path}: holds no sound for this utterance")
                continue
            # A mono file where two channels were expected: both actors are in the one.
            channel = source.channel if source.channel and source.channel < sound.shape[1] else 0
            return Sound(
                samples=np.ascontiguousarray(sound[:, channel]),
                status="ok" if complete else "partial",
                sample_rate=rate,
                source=source,
                problems=tuple(problems),
            )
        nothing = np.zeros(0, np.int16)
        return Sound(samples=nothing, status="none", sample_rate=None, source=None, problems=tuple(problems))

    def cut(self, source: AudioSource) -> tuple[NDArray[np.int16], int, bool]:
        """int16 (n, channels) at 16 kHz of a source's span, the file's own rate, and whether the span is all there.

        Spans are seconds of the container. Raises MesmError if the file cannot be used, OSError if the machine fails.
        """
        import soundfile

        path = self._root / source.path
        try:
            path.open("rb").close()  # libsndfile calls whatever keeps it from opening a file a "System error"
        except OSError as error:
            raise_resource_error(error)
            raise MesmError(str(error.strerror)) from None
        start, stop = sample_span(source.span) if source.span else (0, None)
        try:
            info = soundfile.info(os.fsencode(path))
        except soundfile.LibsndfileError:
            info = None  # not a sound file for it: ffmpeg reads more
        if info is not None and info.samplerate == SAMPLE_RATE and info.subtype == "PCM_16":
            try:
                sound, _ = soundfile.read(
                    os.fsencode(path), start=min(start, info.frames), stop=stop, dtype="int16", always_2d=True
                )
            except soundfile.LibsndfileError as error:
                raise MesmError(f"cannot be read ({str(error).rsplit(': ', 1)[-1].rstrip('.')})") from None
            rate = SAMPLE_RATE
        else:
            track = self._track(source.path)
            sound, rate = track.cut(start, stop), track.sample_rate
        return sound, rate, stop is None or len(sound) == stop - start

    def _track(self, name: str) -> Track:
        if self._converted is None or self._converted[0] != name:
            self._converted = None  # its file goes first
            self._converted = (name, convert(self._root / name, self._scratch))
        return self._converted[1]


def sample_span(span: tuple[float, float]) -> tuple[int, int]:
    """Seconds to samples at 16 kHz: [start, stop), each rounded to the nearest sample, halves up."""
    start, stop = (nearest(Fraction(repr(second))) for second in span)
    return max(start, 0), max(stop, start, 0)


def nearest(seconds: Fraction) -> int:
    """The nearest sample at 16 kHz, halves up."""
    return math.floor(seconds * SAMPLE_RATE + Fraction(1, 2))


def convert(path: Path, scratch: Path | None) -> Track:
    """The first sound track of any file that FFmpeg reads. Raises MesmError with the reason if there is none."""
    import ffmpeg

    channels, rate, begin = probe(path)
    # Holes in the track are filled with silence (`async=1`), so that what follows keeps its time.
    stream = ffmpeg.input(f"file:{path}")["a:0"].filter("aresample", SAMPLE_RATE, **{"async": 1})
    command = ffmpeg.output(stream, "pipe:1", format="s16le", ac=channels)
    arguments = command.global_args("-v", "error", "-nostdin", "-cpuflags", "0").compile(cmd=ffmpeg_binary())
    with tempfile.TemporaryFile(dir=scratch) as raw:
        problem = _run(arguments, raw.fileno())
        size = raw.seek(0, 2) // (2 * channels) * channels
        if size == 0:
            raise MesmError(f"its sound cannot be decoded ({problem or 'it is empty'})")
        samples: NDArray[np.int16] = np.memmap(raw, "<i2", "r", shape=(size // channels, channels))
    return Track(samples=samples, lead=nearest(begin), sample_rate=rate)


def _run(arguments: list[str], output: int) -> str | None:
    """Run ffmpeg; what it says if it fails. What it could decode until then is kept: the rest is missing."""
    done = subprocess.run(arguments, stdout=output, stderr=subprocess.PIPE, check=False)
    words = done.stderr.decode(errors="replace").strip()
    check_exit(done.returncode, words)
    return words[-300:] if done.returncode else None


def probe(path: Path) -> tuple[int, int, Fraction]:
    """Channels and sample rate of a file's first sound track, and its first sample's time from the container's start.

    Raises MesmError if there is no sound in it.
    """
    import av

    try:
        with av.open(f"file:{path}") as container:
            if not container.streams.audio:
                raise MesmError("holds no sound track")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise MesmError("holds sound of a kind that this FFmpeg cannot decode")
            channels, rate = stream.codec_context.channels, stream.codec_context.sample_rate
            begin = _first(container, stream)
    except (av.FFmpegError, OSError) as error:
        raise_resource_error(error)
        raise MesmError(f"not a sound file ({error.strerror})") from None
    if begin is None or not channels or not rate:
        raise MesmError("its sound cannot be decoded")
    return channels, rate, begin


def _first(container: "av.container.InputContainer", stream: "av.AudioStream") -> Fraction | None:
    """The time of the first sample that can be decoded; None if there is none."""
    import av

    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        if frames:
            first = frames[0]
            if first.pts is None or first.time_base is None:
                return Fraction(0)
            return first.pts * first.time_base - origin(container)
    return None

"""An utterance's sound: mono 16-bit at the recipe's sample rate (default 16 kHz), cut by sample.

soundfile reads what is 16-bit PCM of that rate already (RIFF, WAVE_FORMAT_EXTENSIBLE, NIST/SPHERE, ...), bit for bit;
ffmpeg converts everything else, the sound track of a video too. Its SIMD code rounds differently from CPU to CPU, so it
runs without.
"""

import math
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
from mesm_data.media.tools import ffmpeg_binary
from mesm_data.media.video import origin
from mesm_data.shards.members import SAMPLE_RATE

if TYPE_CHECKING:
    import av


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """`samples`: int16 (n,) at the reader's rate. `status`: ok, partial (the file ends before the utterance) or none.

    `sample_rate` is the source's own; `problems` says why a source could not be used.
    """

    samples: NDArray[np.int16]
    status: str
    sample_rate: int | None
    source: AudioSource | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A whole converted file: `samples` int16 (n, channels) at the reader's rate; the first is at sample `lead`.

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

    Converted files lie in `scratch` (default: the system's folder for temporary files), not in memory. `rate` is that
    of the result, in Hz.
    """

    def __init__(self, root: Path, scratch: Path | None = None, rate: int = SAMPLE_RATE) -> None:
        self._root, self._scratch, self.rate = root, scratch, rate
        self._converted: tuple[str, Track] | None = None

    def read(self, sources: Sequence[AudioSource]) -> Sound:
        """The first source that can be read, and what was wrong with those before it."""
        problems = [] if sources else ["no sound file"]
        for source in sources:
            try:
                sound, rate, complete = self.cut(source)
            except (MesmError, OSError) as error:
                problems.append(f"{source.path}: {error.strerror if isinstance(error, OSError) else error}")
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
        """The span of a source, int16 (n, channels); the file's own sample rate; whether the span is all there.

        The samples are at the reader's rate. Spans are seconds of the container. Raises MesmError or OSError if the
        file cannot be used.
        """
        import soundfile

        path = self._root / source.path
        path.open("rb").close()  # libsndfile calls whatever keeps it from opening a file a "System error"
        start, stop = sample_span(source.span, self.rate) if source.span else (0, None)
        try:
            info = soundfile.info(str(path))
        except soundfile.LibsndfileError:
            info = None  # not a sound file for it: ffmpeg reads more
        if info is not None and info.samplerate == self.rate and info.subtype == "PCM_16":
            try:
                sound, _ = soundfile.read(
                    str(path), start=min(start, info.frames), stop=stop, dtype="int16", always_2d=True
                )
            except soundfile.LibsndfileError as error:
                raise MesmError(f"cannot be read ({str(error).rsplit(': ', 1)[-1].rstrip('.')})") from None
            rate = self.rate
        else:
            track = self._track(source.path)
            sound, rate = track.cut(start, stop), track.sample_rate
        return sound, rate, stop is None or len(sound) == stop - start

    def _track(self, name: str) -> Track:
        if self._converted is None or self._converted[0] != name:
            self._converted = None  # its file goes first
            self._converted = (name, convert(self._root / name, self._scratch, self.rate))
        return self._converted[1]


def sample_span(span: tuple[float, float], rate: int) -> tuple[int, int]:
    """Seconds to samples at `rate` Hz: [start, stop), each rounded to the nearest sample, halves up."""
    start, stop = (nearest(Fraction(repr(second)), rate) for second in span)
    return max(start, 0), max(stop, start, 0)


def nearest(seconds: Fraction, rate: int) -> int:
    """The nearest sample at `rate` Hz, halves up."""
    return math.floor(seconds * rate + Fraction(1, 2))


def convert(path: Path, scratch: Path | None, rate: int) -> Track:
    """The first sound track of any file that FFmpeg reads, at `rate` Hz.

    Raises MesmError with the reason if there is none.
    """
    import ffmpeg

    channels, own_rate, begin = probe(path)
    # Holes in the track are filled with silence (`async=1`), so that what follows keeps its time.
    stream = ffmpeg.input(f"file:{path}")["a:0"].filter("aresample", rate, **{"async": 1})
    command = ffmpeg.output(stream, "pipe:1", format="s16le", ac=channels)
    arguments = command.global_args("-v", "error", "-nostdin", "-cpuflags", "0").compile(cmd=ffmpeg_binary())
    with tempfile.TemporaryFile(dir=scratch) as raw:
        problem = _run(arguments, raw.fileno())
        size = raw.seek(0, 2) // (2 * channels) * channels
        if size == 0:
            raise MesmError(f"its sound cannot be decoded ({problem or 'it is empty'})")
        samples: NDArray[np.int16] = np.memmap(raw, "<i2", "r", shape=(size // channels, channels))
    return Track(samples=samples, lead=nearest(begin, rate), sample_rate=own_rate)


def _run(arguments: list[str], output: int) -> str | None:
    """Run ffmpeg; what it says if it fails. What it could decode until then is kept: the rest is missing."""
    done = subprocess.run(arguments, stdout=output, stderr=subprocess.PIPE, check=False)
    return done.stderr.decode(errors="replace").strip()[-300:] if done.returncode else None


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

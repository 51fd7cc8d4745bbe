"""An utterance's sound: 16 kHz mono 16-bit, cut by sample.

soundfile reads what is 16 kHz 16-bit PCM already, bit for bit; ffmpeg converts everything else. Its SIMD code rounds
differently from CPU to CPU, so it runs without.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mesm_data.corpora.base import AudioSource
from mesm_data.errors import MesmError
from mesm_data.media.tools import ffmpeg_binary
from mesm_data.shards.members import SAMPLE_RATE


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


class AudioReader:
    """Reads the sound of one recording's utterances; the last converted file is kept for the next cut."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._converted: tuple[str, NDArray[np.int16]] | None = None

    def read(self, sources: Sequence[AudioSource]) -> Sound:
        """The first source that can be read, and what was wrong with those before it."""
        problems = [] if sources else ["no sound file"]
        for source in sources:
            try:
                samples, rate, complete = self._cut(source)
            except (MesmError, OSError) as error:
                problems.append(f"{source.path}: {error.strerror if isinstance(error, OSError) else error}")
                continue
            if len(samples) == 0:
                problems.append(f"{source.path}: holds no sound for this utterance")
                continue
            status = "ok" if complete else "partial"
            return Sound(samples=samples, status=status, sample_rate=rate, source=source, problems=tuple(problems))
        nothing = np.zeros(0, np.int16)
        return Sound(samples=nothing, status="none", sample_rate=None, source=None, problems=tuple(problems))

    def _cut(self, source: AudioSource) -> tuple[NDArray[np.int16], int, bool]:
        import soundfile

        path = self._root / source.path
        path.open("rb").close()  # libsndfile calls whatever keeps it from opening a file a "System error"
        try:
            info = soundfile.info(str(path))
        except soundfile.LibsndfileError as error:
            raise MesmError(f"not a sound file ({_said(error)})") from None
        plain = info.samplerate == SAMPLE_RATE and info.subtype == "PCM_16"
        start, stop = sample_span(source.span) if source.span else (0, None)
        try:
            if plain:
                sound, _ = soundfile.read(
                    str(path), start=min(start, info.frames), stop=stop, dtype="int16", always_2d=True
                )
            else:
                sound = self._convert(source.path, info.channels)[start:stop]
        except soundfile.LibsndfileError as error:
            raise MesmError(f"cannot be read ({_said(error)})") from None
        channel = source.channel or 0
        if channel >= sound.shape[1]:
            channel = 0  # a mono file where two channels were expected: both actors are in the one
        complete = stop is None or len(sound) == stop - start
        return np.ascontiguousarray(sound[:, channel]), info.samplerate, complete

    def _convert(self, name: str, channels: int) -> NDArray[np.int16]:
        if self._converted is None or self._converted[0] != name:
            self._converted = (name, decode(self._root / name, channels))
        return self._converted[1]


def sample_span(span: tuple[float, float]) -> tuple[int, int]:
    """Seconds to samples at 16 kHz: [start, stop), each rounded to the nearest sample, halves up."""
    start, stop = (math.floor(Fraction(repr(second)) * SAMPLE_RATE + Fraction(1, 2)) for second in span)
    return max(start, 0), max(stop, start, 0)


def decode(path: Path, channels: int) -> NDArray[np.int16]:
    """Any sound that ffmpeg reads, as int16 (n, channels) at 16 kHz. Raises MesmError with ffmpeg's own words."""
    import ffmpeg

    stream = ffmpeg.input(f"file:{path}").audio
    command = ffmpeg.output(stream, "pipe:1", format="s16le", ar=SAMPLE_RATE, ac=channels)
    try:
        raw, _ = command.global_args("-v", "error", "-nostdin", "-cpuflags", "0").run(
            cmd=ffmpeg_binary(), capture_stdout=True, capture_stderr=True
        )
    except ffmpeg.Error as error:
        raise MesmError(f"ffmpeg cannot read it ({error.stderr.decode(errors='replace').strip()[-300:]})") from None
    return np.frombuffer(raw, "<i2").reshape(-1, channels)


def _said(error: Exception) -> str:
    """Libsndfile's reason without the path it repeats."""
    return str(error).rsplit(": ", 1)[-1].rstrip(".")

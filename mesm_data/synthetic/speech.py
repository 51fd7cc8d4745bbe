"""Speech synthesis with word and phoneme times by espeak-ng's C library through ctypes.

The interface (`espeak_Initialize`, `espeak_Synth`, the events) is that of espeak-ng's public header `speak_lib.h`.
"""

import ctypes
import ctypes.util
import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError, MesmError
from mesm_data.synthetic.phonemes import bare

RATE = 16_000  # sample rate of the result
UP, DOWN = 320, 441  # 16 000 / 22 050, the library's own rate
HALF_WIDTH = 40  # input samples each side of the resampling filter: 29 zero crossings

# speak_lib.h
SYNCHRONOUS, PHONEME_EVENTS, DONT_EXIT, UTF8, CHARACTER_POSITION = 2, 0x0001, 0x8000, 1, 1
PARAMETER_RATE, PARAMETER_VOLUME, PARAMETER_PITCH, PARAMETER_RANGE = 1, 2, 3, 4
EVENT_END_OF_LIST, EVENT_WORD, EVENT_PHONEME = 0, 1, 7


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """An espeak-ng voice and variant; rate in words per minute; pitch, range and volume from 0 to about 100.

    A positive `tilt` (-1 to 1) brightens the spectrum at the same loudness, like vocal effort; a negative one dulls it.
    """

    name: str = "en-us"
    rate: int = 160
    pitch: int = 45
    range: int = 40
    volume: int = 80
    tilt: float = 0.0


class Span(NamedTuple):
    """A word or phoneme with its times in seconds of the speech."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """`samples` (n,) float32 in -1..1 at 16 kHz; `words` as in the text; `phonemes` with espeak-ng's names."""

    samples: NDArray[np.float32]
    words: tuple[Span, ...]
    phonemes: tuple[Span, ...]

    @property
    def duration(self) -> float:
        """The length in seconds."""
        return len(self.samples) / RATE


class Synthesiser:
    """espeak-ng. Its state is global: create one instance per process.

    The internal state after a sentence (phase of the wave, flutter of the pitch) changes the next one by a few samples:
    results are identical only for the same sentences in the same order in a new process.
    """

    def __init__(self) -> None:
        """Load the library. Raises InputError if there is none."""
        path, data = library()
        self._library = ctypes.CDLL(path)
        size, pointer, number = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_uint
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p, size, number, ctypes.c_int, number, number, pointer, pointer
        ]  # fmt: skip
        folder = data.encode() if data else None
        if self._library.espeak_Initialize(SYNCHRONOUS, 0, folder, PHONEME_EVENTS | DONT_EXIT) != 22_050:
            raise MesmError(
                "espeak-ng did not start at 22050 Hz; its data are missing or of another version. Reinstall it."
            )
        if hasattr(self._library, "espeak_ng_SetRandSeed"):  # since 1.51, which otherwise seeds with the time
            self._library.espeak_ng_SetRandSeed(1)
        self._pcm: list[bytes] = []
        self._events: list[tuple[int, int, float, str]] = []
        self._callback = _CALLBACK(self._receive)  # a reference, because the library stores only a pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: Voice) -> Speech:
        """Synthesise one sentence. Words are separated by blanks and contain a letter or digit."""
        self._pcm.clear()
        self._events.clear()
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise MesmError(f"espeak-ng has no voice {voice.name}.")
        parameters = (PARAMETER_RATE, voice.rate), (PARAMETER_PITCH, voice.pitch), (PARAMETER_RANGE, voice.range)
        for parameter, value in (*parameters, (PARAMETER_VOLUME, voice.volume)):
            self._library.espeak_SetParameter(parameter, int(value), 0)
        utf8 = text.encode()
        if self._library.espeak_Synth(utf8, len(utf8) + 1, 0, CHARACTER_POSITION, 0, UTF8, None, None) != 0:
            raise MesmError(f"espeak-ng could not say: {text!r}")
        pcm = np.frombuffer(b"".join(self._pcm), np.int16)
        phonemes = _phonemes(self._events, len(pcm) / 22_050)
        words = _words(text, self._events, phonemes)
        end = phonemes[-1].end if phonemes else 0.0  # the library adds a pause after a full stop
        samples = _tilt(resample(pcm[: round(end * 22_050)]) / np.float32(32_768), voice.tilt)
        return Speech(samples=np.clip(samples, -1, 1), words=words, phonemes=phonemes)

    def _receive(self, wave: int | None, samples: int, events: Any) -> int:
        if wave and samples > 0:
            self._pcm.append(ctypes.string_at(wave, 2 * samples))
        index = 0
        while (event := events[index]).type != EVENT_END_OF_LIST:
            name = event.id.string.decode() if event.type == EVENT_PHONEME else ""
            self._events.append((event.type, event.text_position - 1, event.audio_position / 1000, name))
            index += 1
        return 0


def _tilt(samples: NDArray[np.float32], tilt: float) -> NDArray[np.float32]:
    """Filter the samples with 1 - tilt z^-1 at constant loudness."""
    filtered = samples.copy()
    filtered[1:] -= np.float32(tilt) * samples[:-1]
    power = float(np.square(filtered).sum())
    if power:
        filtered *= np.float32(np.sqrt(float(np.square(samples).sum()) / power))
    return filtered


def library() -> tuple[str, str | None]:
    """Return the path of the library (the system's, or that of the wheel espeakng-loader) and of its data.

    The path of the data is None for the system's library. Raises InputError with the install command if there is none.
    """
    if name := ctypes.util.find_library("espeak-ng"):
        return name, None
    try:
        import espeakng_loader
    except ImportError:
        raise InputError('The synthetic speech needs espeak-ng; install it: pip install "mesm[sample]"') from None
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())


def _phonemes(events: list[tuple[int, int, float, str]], duration: float) -> tuple[Span, ...]:
    """Return the phonemes, each until the next one starts. Pauses (`_:` and `_`) are skipped."""
    starts = [(name, time) for kind, _, time, name in events if kind == EVENT_PHONEME] + [("_", duration)]
    return tuple(Span(name, start, end) for (name, start), (_, end) in pairwise(starts) if bare(name) and end > start)


def _words(text: str, events: list[tuple[int, int, float, str]], phonemes: tuple[Span, ...]) -> tuple[Span, ...]:
    """Return the words of `text`, from their first event to the end of the last phoneme before the next word.

    Events may be parts of a word ("can't" reports "can", "twenty-five" two words): they are matched by position. Some
    pairs are one event ("in the", "has been"): their time is divided in proportion to their letters.
    """
    tokens = [(match.end(), match.group()) for match in re.finditer(r"\S*\w\S*", text)]
    starts: dict[int, float] = {}
    for kind, position, time, _ in events:
        index = next((i for i, (end, _) in enumerate(tokens) if position < end), None)
        if kind == EVENT_WORD and index is not None:
            starts.setdefault(index, time)
    words: list[Span] = []
    for (index, t0), (following, until) in pairwise([*sorted(starts.items()), (len(tokens), float("inf"))]):
        t1 = max((phoneme.end for phoneme in phonemes if t0 <= phoneme.start < until), default=t0)
        names = [name for _, name in tokens[index:following]]
        edges = t0 + (min(t1, until) - t0) * np.cumsum([0, *map(len, names)]) / sum(map(len, names))
        words += [Span(name, start, end) for name, (start, end) in zip(names, pairwise(edges.tolist()), strict=True)]
    return tuple(words)


@cache
def _filters() -> NDArray[np.float64]:
    """Return a Kaiser-windowed sinc of sum 1 for each of the 320 positions between two input samples: (320, 80).

    The cutoff is 0.94 of the lower Nyquist frequency; beta 8 puts the stop band below -80 dB (Kaiser 1974).
    """
    offsets = np.arange(1 - HALF_WIDTH, HALF_WIDTH + 1) - np.arange(UP)[:, None] / UP
    cutoff = 0.94 * UP / DOWN
    window = np.i0(8 * np.sqrt(np.clip(1 - (offsets / HALF_WIDTH) ** 2, 0, None))) / np.i0(8)
    taps = np.sinc(offsets * cutoff) * window
    return np.asarray(taps / taps.sum(axis=1, keepdims=True), np.float64)


def resample(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Resample (n,) at 22 050 Hz to (ceil(n * 320 / 441),) float32 at 16 kHz; polyphase, linear phase, same start."""
    if not len(samples):
        return np.zeros(0, np.float32)
    positions = np.arange(-(-len(samples) * UP // DOWN)) * DOWN
    padded = np.pad(samples.astype(np.float64), (HALF_WIDTH - 1, HALF_WIDTH + 1))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * HALF_WIDTH)
    values: NDArray[np.float64] = np.einsum("ij,ij->i", windows[positions // UP], _filters()[positions % UP])
    return values.astype(np.float32)

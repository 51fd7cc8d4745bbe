"""Times of the words of a known text, by the forced alignment of PocketSphinx: English, offline, weights in its wheel.

It takes .014 s of CPU for a second of sound, and needs the extra `align`.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import MesmError
from mesm_data.schema.recordings import Word

FRAMES = 100  # a second
RATE = 16_000
_SILENCE = re.compile(r"<.*>|\[.*\]|\+\+.*\+\+")


def align(samples: NDArray[np.int16], text: str) -> tuple[Word, ...]:
    """The words of a text with their times in its sound.

    A word that the dictionary does not know (a name, a number in digits) is left out of the alignment and gets the time
    between its neighbours, which may be none.

    Args:
        samples: int16 (n,) at 16 kHz.
        text: what is said; words are what stands between spaces.

    Raises:
        MesmError: PocketSphinx is not installed, knows none of the words, or finds no way through the sound.
    """
    try:
        from pocketsphinx import Decoder
    except ImportError:
        raise MesmError("word alignment needs PocketSphinx: pip install 'mesm[align]'") from None
    decoder = Decoder(lm=None, samprate=RATE, loglevel="FATAL")
    words = text.split()
    spoken = [_spoken(word) for word in words]
    known = [index for index, word in enumerate(spoken) if word and decoder.lookup_word(word)]
    if not known:
        raise MesmError(f"none of the words of {text!r:.60} is in the English dictionary of PocketSphinx")
    try:
        decoder.set_align_text(" ".join(spoken[index] for index in known))
        decoder.start_utt()
        decoder.process_raw(samples.tobytes(), full_utt=True)
        decoder.end_utt()
        segments = [segment for segment in decoder.seg() or () if not _SILENCE.fullmatch(segment.word)]
    except RuntimeError as error:
        raise MesmError(f"the text {text!r:.60} cannot be aligned ({error})") from None
    if len(segments) != len(known):
        raise MesmError(f"the text {text!r:.60} does not fit the sound: no alignment was found")
    times = {
        index: (segment.start_frame / FRAMES, (segment.end_frame + 1) / FRAMES)
        for index, segment in zip(known, segments, strict=True)
    }
    return _with_unknown(words, times, len(samples) / RATE)


def _spoken(word: str) -> str:
    """A word as the dictionary spells it: lower case, with the apostrophes and hyphens inside it."""
    return re.sub(r"^[^a-z0-9]+|[^a-z0-9]+$", "", word.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


def _with_unknown(words: Sequence[str], times: dict[int, tuple[float, float]], length: float) -> tuple[Word, ...]:
    """All words; those without times share the time between the words around them."""
    placed = [
        Word(word=word, start=times[i][0], end=times[i][1]) if i in times else None for i, word in enumerate(words)
    ]
    result: list[Word] = []
    for index, word in enumerate(placed):
        if word is not None:
            result.append(word)
            continue
        following = next(((n, later) for n, later in enumerate(placed[index:]) if later is not None), None)
        count, end = (following[0], following[1].start) if following else (len(placed) - index, length)
        start = result[-1].end if result else 0.0
        share = max(end - start, 0.0) / count
        result.append(Word(word=words[index], start=round(start, 3), end=round(start + share, 3)))
    return tuple(result)


def shifted(words: Sequence[Word], seconds: float) -> tuple[Word, ...]:
    """Words that are so much later."""
    return tuple(
        replace(word, start=round(word.start + seconds, 6), end=round(word.end + seconds, 6)) for word in words
    )

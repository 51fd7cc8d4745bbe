"""Sliding windows over a long clip."""

import math
from collections.abc import Sequence
from dataclasses import replace

from mesm_data.errors import InputError
from mesm_data.schema.recordings import Word
from mesm_train.inference.clips import Clip
from mesm_train.inference.file_end import to_file_end


def windows(clip: Clip, *, seconds: float, step: float) -> list[Clip]:
    """A clip as windows of `seconds` that begin every `step` seconds; the last one ends with the clip.

    The text of a window is made of the clip's words whose middle lies in it; without words, a text of the whole clip
    would be wrong for each window and is refused. The last window notes that the file is truncated, and how many words
    begin after its end.

    Raises:
        InputError: the numbers are no lengths, or the clip has a text without times.
        MesmError: the length of the file cannot be measured.
    """
    if not (0 < step <= seconds < math.inf):
        raise InputError(f"windows of {seconds:g} s every {step:g} s: expected 0 < step <= length")
    if clip.text and clip.words is None:
        raise InputError(
            f"{clip.path}: windows need the times of the words: give subtitles, --words, or --align with the text"
        )
    if math.isinf(clip.end):
        [clip] = to_file_end([clip])
        clip = with_late_words(clip)
    length = clip.end - clip.start
    if clip.words is not None:  # the middle of a word, or subtitle, that outlasts the file may lie beyond its end
        clip = replace(
            clip, words=tuple(replace(word, end=max(word.start, min(word.end, length))) for word in clip.words)
        )
    count = max(1, math.ceil((length - seconds) / step - 1e-9) + 1)
    starts = [clip.start + number * step for number in range(count)]
    cut = [window(clip, round(start, 6), round(min(start + seconds, clip.end), 6)) for start in starts]
    return [*(replace(each, notes=()) for each in cut[:-1]), cut[-1]]


def with_late_words(clip: Clip) -> Clip:
    """A clip with a note about its words, or subtitles, that begin after its end."""
    late = [clip.start + word.start for word in clip.words or () if clip.start + word.start >= clip.end]
    if not late:
        return clip
    note = f"{len(late)} words or subtitles begin after the end of the file, the first at {min(late):.3f} s"
    return replace(clip, notes=(*clip.notes, note))


def window(clip: Clip, start: float, end: float) -> Clip:
    """The stretch of a clip, with the words whose middle lies in it."""
    if clip.words is None:
        return replace(clip, start=start, end=end)
    inside = words_between(clip.words, start - clip.start, end - clip.start)
    return replace(clip, start=start, end=end, text=" ".join(word.word for word in inside), words=inside)


def words_between(words: Sequence[Word], start: float, end: float) -> tuple[Word, ...]:
    """The words whose middle lies in [start, end), with times from `start` on."""
    return tuple(
        replace(word, start=round(max(word.start - start, 0.0), 6), end=round(min(word.end, end) - start, 6))
        for word in words
        if start <= (word.start + word.end) / 2 < end
    )

"""Where the text of clips comes from: the command line, files of words, subtitles, alignment, speech recognition."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError
from mesm_data.schema.recordings import Word
from mesm_data.storage.files import read_bounded_file
from mesm_data.storage.json_files import parse_json
from mesm_train.inference.alignment import align, shifted
from mesm_train.inference.clips import Clip
from mesm_train.inference.decode import decode
from mesm_train.inference.subtitles import Cue, read_subtitles

MAX_BYTES = 64 * 2**20
SIDECARS = (".srt", ".vtt", ".txt")
_NAMES = {"word": ("word", "w", "text"), "start": ("start", "t0", "begin"), "end": ("end", "t1", "stop")}
Recogniser = Callable[[NDArray[np.int16]], tuple[Word, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSource:
    """Where texts come from. Without any of these: a file beside the clip with its name and the ending of `SIDECARS`.

    Attributes:
        text: of the one clip.
        subtitles: a file of the one clip.
        words: a file of the one clip, see `read_words`.
        align: find the times of the words of a plain text.
        recognise: hears the words.
    """

    text: str | None = None
    subtitles: Path | None = None
    words: Path | None = None
    align: bool = False
    recognise: Recogniser | None = None

    def __post_init__(self) -> None:
        options = {"--text": self.text, "--srt": self.subtitles, "--words": self.words, "--whisper": self.recognise}
        chosen = [name for name, value in options.items() if value is not None]
        if len(chosen) > 1:
            raise InputError(f"{' and '.join(chosen)}: give one source of the text")
        if self.align and self.words:
            raise InputError("--align finds the times of words, which --words has already: leave one of them out")

    @property
    def is_of_one_clip(self) -> bool:
        """Whether it can be the text of one clip only."""
        return any(value is not None for value in (self.text, self.subtitles, self.words))


def with_text(clip: Clip, source: TextSource, recipe: Recipe, *, whole: bool = False) -> list[Clip]:
    """A clip with its text: one clip, or one for each subtitle that begins in it.

    Args:
        clip: any stretch of a file.
        source: where the text comes from.
        recipe: how the sound is decoded, for alignment and speech recognition.
        whole: keep the clip whole, each subtitle as one "word", for windows.
    """
    beside = sidecar(clip.path) if source == TextSource(align=source.align) else None
    subtitles = source.subtitles or (beside if beside and beside.suffix != ".txt" else None)
    if subtitles:
        cues = [cue for cue in read_subtitles(subtitles) if clip.start <= cue.start < clip.end]
        if not cues:
            raise InputError(f"{subtitles}: no subtitle begins between {clip.start:g} and {clip.end:g} s")
        if not whole:
            return [_aligned(_of_cue(clip, cue), recipe) if source.align else _of_cue(clip, cue) for cue in cues]
        words = tuple(Word(word=cue.text, start=cue.start, end=cue.end) for cue in cues)
        return [with_words(clip, shifted(words, -clip.start))]
    if source.words:
        inside = [word for word in read_words(source.words) if clip.start <= (word.start + word.end) / 2 < clip.end]
        return [with_words(clip, shifted(inside, -clip.start))]
    if source.recognise:
        return [with_words(clip, source.recognise(_sound(clip, recipe)))]
    text = source.text if beside is None else read_text(beside)
    clip = replace(clip, text=text)
    return [_aligned(clip, recipe) if source.align and text else clip]


def with_words(clip: Clip, words: Sequence[Word]) -> Clip:
    """A clip with words, whose times count from its start, and the text that they make."""
    return replace(clip, words=tuple(words), text=" ".join(word.word for word in words))


def sidecar(path: Path) -> Path | None:
    """The file beside a clip that holds its text, if there is one."""
    return next((file for suffix in SIDECARS if (file := path.with_suffix(suffix)).is_file()), None)


def read_text(path: Path) -> str:
    """The text in a UTF-8 file, on one line."""
    try:
        return " ".join(read_bounded_file(path, MAX_BYTES).decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}): convert it, with iconv for example") from None


def read_words(path: Path) -> list[Word]:
    """Words with their times in seconds of the file, in the order of time.

    JSON: a list of objects, also as `words` of an object. CSV or tab-separated text: a header, then a word a line. The
    word is called word, w or text; its times start and end, t0 and t1, or begin and stop.

    Raises InputError that names the entry if the file is anything else.
    """
    raw = read_bounded_file(path, MAX_BYTES)
    try:
        if path.suffix.lower() == ".json":
            content = parse_json(raw)
            entries = content.get("words") if isinstance(content, dict) else content
            if not isinstance(entries, list):
                raise ValueError("expected a list of words")
        else:
            text = raw.decode("utf-8-sig")
            delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
            entries = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is no file of words: {error}") from None
    words = []
    for number, entry in enumerate(entries, 1):
        try:
            words.append(_entry(entry))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}, word {number}: {error}") from None
    return sorted(words, key=lambda word: (word.start, word.end))


def _entry(entry: Any) -> Word:
    if not isinstance(entry, dict):
        raise ValueError(f"{json.dumps(entry)[:60]} is no word with its times")
    values: dict[str, Any] = {
        what: next((entry[name] for name in names if entry.get(name) is not None), None)
        for what, names in _NAMES.items()
    }
    if missing := [what for what, value in values.items() if value is None]:
        raise ValueError(f"it has no {missing[0]} (expected one of {', '.join(_NAMES[missing[0]])})")
    start, end = float(values["start"]), float(values["end"])
    if not (0 <= start <= end < math.inf):
        raise ValueError(f"its times are {start} and {end} s")
    return Word(word=str(values["word"]).strip(), start=start, end=end)


def _of_cue(clip: Clip, cue: Cue) -> Clip:
    end = min(cue.end, clip.end)
    return replace(clip, start=cue.start, end=end, text=cue.text, words=None, speaker=cue.speaker)


def _aligned(clip: Clip, recipe: Recipe) -> Clip:
    return replace(clip, words=align(_sound(clip, recipe), clip.text or ""))


def _sound(clip: Clip, recipe: Recipe) -> NDArray[np.int16]:
    """The sound of a clip. Raises InputError if it has none."""
    [decoded] = decode([clip], recipe, ("a",))
    if not len(decoded.samples):
        raise InputError(f"{decoded.key}: there is no sound to find words in ({decoded.problems.get('a', 'none')})")
    return decoded.samples

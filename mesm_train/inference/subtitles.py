"""SubRip (.srt) and WebVTT (.vtt) files: who says what, and when.

00:00:02.500 --> 00:00:04.750 align:start
<v Anna>I <i>am</i> so angry.</v>
"""

import html
import re
from dataclasses import dataclass
from pathlib import Path

from mesm_data.errors import InputError
from mesm_data.storage.files import read_bounded_file

MAX_BYTES = 32 * 2**20  # a day of subtitles has one or two MB
_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_EXAMPLE = "00:00:02,500 --> 00:00:04,750"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_UNREADABLE = re.compile(r"\s*\d+:[\d:.,\s]*-+>.*")  # begins like times, but cannot be read
_VOICE = re.compile(r"<v(?:\.[^\s>]+)*\s+([^>]+)>")
_MARKUP = re.compile(r"</?[A-Za-z0-9][^>]*>|\{\\[^}]*\}")  # <i>, <c.loud>, <00:00:03.000>; {\an8} of SubStation Alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """One subtitle: seconds of the file, its text without markup, and who speaks, if a voice tag says so."""

    start: float
    end: float
    text: str
    speaker: str | None = None


def read_subtitles(path: Path) -> list[Cue]:
    """The subtitles of a file that hold a text, in the order of time.

    Lines may end in any way, and the file may begin with a byte order mark. Markup is left out, entities are resolved.
    A subtitle ends at an empty line or, as files without these are common, at the number or the times of the next one.

    Raises InputError if the file cannot be read or holds no subtitle, if times cannot be read, or if a subtitle ends
    before it begins.
    """
    raw = read_bounded_file(path, MAX_BYTES, ": it is no file of subtitles")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}): convert it, with iconv for example") from None
    cues = []
    lines = [*text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), ""]
    for number, line in enumerate(lines):
        if not (times := _TIMES.fullmatch(line)):
            before = lines[number - 1].strip() if number else ""
            if _UNREADABLE.fullmatch(line) and (not before or before.isdecimal()):  # else it is text
                raise InputError(f"{path}, line {number + 1}: {line.strip()!r:.60} is not like {_EXAMPLE}")
            continue
        start, end = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
        if end <= start:
            raise InputError(f"{path}, line {number + 1}: the subtitle ends at {end} s and begins at {start} s")
        cue = _cue(start, end, " ".join(_body(lines, number + 1)))
        if cue.text:
            cues.append(cue)
    if not cues:
        raise InputError(f"{path} holds no subtitle: expected SubRip (.srt) or WebVTT (.vtt)")
    return sorted(cues, key=lambda cue: (cue.start, cue.end))


def _body(lines: list[str], begin: int) -> list[str]:
    """The lines of a subtitle's text. WebVTT's may be spaces alone, so only an empty line surely ends it."""
    end = begin
    while lines[end]:
        if _TIMES.fullmatch(lines[end]):
            return lines[begin : end - 1 if lines[end - 1].strip().isdecimal() else end]
        end += 1
    return lines[begin:end]


def _cue(start: float, end: float, body: str) -> Cue:
    voices = [" ".join(html.unescape(name).split()) for name in _VOICE.findall(body)]
    text = " ".join(html.unescape(_MARKUP.sub("", body)).split())
    speakers = list(dict.fromkeys(voices))
    return Cue(start=start, end=end, text=text, speaker=", ".join(speakers) or None)


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    milliseconds = int(fraction.ljust(3, "0"))
    return (int(hours) * 3_600_000 + int(minutes) * 60_000 + int(seconds) * 1000 + milliseconds) / 1000

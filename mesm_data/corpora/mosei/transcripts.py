"""Parsers of CMU-MOSEI's transcripts and ids. They never raise. Examples have the real format and invented words."""

import re
from dataclasses import dataclass, replace

from mesm_data.corpora.parsing import Parsed

SEPARATOR = "___"

# Valid in sample keys and in file names.
_VIDEO = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
# Bounded, so that the number is finite.
_TIME = r"-?(?:\d{1,9}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,2})?"
_LINE = re.compile(rf"(.+?)___(\d{{1,6}})___({_TIME})___({_TIME})(?:___(.*))?", re.ASCII)
_CLIP = re.compile(r"(\d{1,6})(?:\.0*)?", re.ASCII)
_WHOLE = re.compile(r"(\d+)\.0+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One line of a transcript. Times are seconds of the video; 239 of the 23 259 labelled clips start below 0."""

    line: int
    video: str
    number: int
    start: float
    end: float
    text: str


def parse_transcript(text: str, stem: str) -> Parsed[Clip]:
    """Parse Transcript/Segmented/Combined/<stem>.txt; the clips are in file order, which is not that of their numbers.

    -mJ2ud6oKI8___1___0.47029478458___6.51882086168___Good morning ___ everybody.

    The text may be empty and may contain `___`. A line without separators continues the text above it: it is reported
    and appended after a space. The continuation of a malformed line is skipped with it.
    """
    parsed: Parsed[Clip] = Parsed()
    has_clip = False
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if match:
            has_clip = _add_clip(parsed, number, line, match, stem)
        elif SEPARATOR in line and (line.startswith(f"{stem}{SEPARATOR}") or not has_clip):
            parsed.add_problem(number, "expected `video___clip___start___end___text`", line)
            has_clip = False
        elif has_clip:
            parsed.add_problem(number, "continues the text of the line above", line)
            before = parsed.records[-1]
            parsed.records[-1] = replace(before, text=f"{before.text} {line}".strip())
        else:
            parsed.add_problem(number, "belongs to no clip", line)
    return parsed


def _add_clip(parsed: Parsed[Clip], number: int, line: str, match: re.Match[str], stem: str) -> bool:
    """Add the clip of a line. Returns False if its video id is invalid."""
    video, clip, start, end, text = match.groups()
    if not is_video_id(video):
        parsed.add_problem(number, f"{video[:40]!r} is not the id of a video", line)
        return False
    if video != stem:
        parsed.add_problem(number, f"is in the file of another video; taken as {video}", line)
    parsed.records.append(
        Clip(
            line=number,
            video=video,
            number=int(clip),
            start=float(start),
            end=float(end),
            text=(text or "").strip(),
        )
    )
    return True


def is_video_id(name: str) -> bool:
    """Whether a name can be the id of a video: YouTube's 11 characters (also -, _ and digits), or a number."""
    return _VIDEO.fullmatch(name) is not None


def parse_video_id(cell: str) -> str | None:
    """Parse a cell of Input.VIDEO_ID; None if it contains no id.

    `folder/-3g5yACwYnA` and `-3g5yACwYnA.mp4` give -3g5yACwYnA. 459 ids are numbers, which spreadsheets rewrite:
    `188343.0` gives 188343.
    """
    name = cell.strip().replace("\\", "/").rpartition("/")[2].strip()
    name = name.removesuffix(".mp4")
    whole = _WHOLE.fullmatch(name)
    name = whole[1] if whole else name
    return name if is_video_id(name) and name.lower() != "nan" else None


def parse_clip_number(cell: str) -> int | None:
    """Parse a cell of Input.CLIP: `3`, or `3.0` as pandas writes a column with gaps; None if it is not a number."""
    match = _CLIP.fullmatch(cell.strip())
    return int(match[1]) if match else None


def utterance_id(video: str, clip: int | str) -> str:
    """Return the id of a clip."""
    return f"{video}_{clip}"

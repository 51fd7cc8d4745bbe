"""Parsers of CMU-MOSEI's transcripts and of its ids. They never raise. The lines have the real shape, made-up words."""

import re
from dataclasses import dataclass, replace

from mesm_data.corpora.parsing import Parsed

SEPARATOR = "___"

# What may be a key of a shard and a part of a file's name.
_VIDEO = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
# Bounded, so that no digits make an infinity.
_TIME = r"-?(?:\d{1,9}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,2})?"
_LINE = re.compile(rf"(.+?)___(\d{{1,6}})___({_TIME})___({_TIME})(?:___(.*))?", re.ASCII)
_CLIP = re.compile(r"(\d{1,6})(?:\.0*)?", re.ASCII)
_WHOLE = re.compile(r"(\d+)\.0+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One line of a transcript. Times in seconds of the video; 239 of the 23 259 labelled clips begin below 0."""

    line: int
    video: str
    number: int
    start: float
    end: float
    text: str


def parse_transcript(text: str, stem: str) -> Parsed[Clip]:
    """The clips of Transcript/Segmented/Combined/<stem>.txt, in file order, which is not that of the clips.

    -mJ2ud6oKI8___1___0.47029478458___6.51882086168___Good morning ___ everybody.

    The text may be empty and may hold `___`. A line without separators goes on with the text above it: reported, and
    added after a space. A line that is torn takes its continuation with it.
    """
    parsed: Parsed[Clip] = Parsed()
    open_clip = False
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if match:
            open_clip = _add(parsed, number, line, match, stem)
        elif SEPARATOR in line and (line.startswith(f"{stem}{SEPARATOR}") or not open_clip):
            parsed.problem(number, "expected `video___clip___start___end___text`", line)
            open_clip = False
        elif open_clip:
            parsed.problem(number, "goes on with the text of the line above", line)
            before = parsed.records[-1]
            parsed.records[-1] = replace(before, text=f"{before.text} {line}".strip())
        else:
            parsed.problem(number, "belongs to no clip", line)
    return parsed


def _add(parsed: Parsed[Clip], number: int, line: str, match: re.Match[str], stem: str) -> bool:
    """Add the clip of a line, if its video can be one."""
    video, clip, start, end, text = match.groups()
    if not is_video(video):
        parsed.problem(number, f"{video[:40]!r} is no id of a video", line)
        return False
    if video != stem:
        parsed.problem(number, f"stands in the file of another video; taken as {video}", line)
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


def is_video(name: str) -> bool:
    """Whether this can be the id of a video: YouTube's 11 characters (-, _ and digits among them), or a number."""
    return _VIDEO.fullmatch(name) is not None


def video_of(cell: str) -> str | None:
    """The id in a cell of Input.VIDEO_ID; None if there is none.

    `folder/-3g5yACwYnA` and `-3g5yACwYnA.mp4` give -3g5yACwYnA. Of the 459 ids that are numbers, what a spreadsheet
    makes: `188343.0` gives 188343.
    """
    name = cell.strip().replace("\\", "/").rpartition("/")[2].strip()
    name = name.removesuffix(".mp4")
    whole = _WHOLE.fullmatch(name)
    name = whole[1] if whole else name
    return name if is_video(name) and name.lower() != "nan" else None


def clip_of(cell: str) -> int | None:
    """The number in a cell of Input.CLIP: `3`, or `3.0` as pandas writes a column with gaps; None if there is none."""
    match = _CLIP.fullmatch(cell.strip())
    return int(match[1]) if match else None


def key_of(video: str, clip: int | str) -> str:
    """The id of an utterance."""
    return f"{video}_{clip}"

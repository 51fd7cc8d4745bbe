"""All that the texts and tables of CMU-MOSEI say, by video and clip; what was odd in them goes to the notes."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mesm_data.corpora import csd
from mesm_data.corpora.mosei.layout import Layout
from mesm_data.corpora.mosei.ratings import ITEMS, Values, answered, leaves_zeros_empty, read_answers
from mesm_data.corpora.mosei.transcripts import Clip, is_video, key_of, parse_transcript
from mesm_data.corpora.parsing import Notes
from mesm_data.errors import InputError, MesmError
from mesm_data.schema.recordings import Word
from mesm_data.storage.machine_errors import raise_resource_error

Rows = TypeVar("Rows")  # of a video

_WORDS = re.compile(r"timestamped_?words", re.IGNORECASE | re.ASCII)  # not ...WordVectors


@dataclass(slots=True, kw_only=True)
class Rated:
    """The raters of one clip, in the order of the files and their rows, and the files.

    `answered`: somebody answered something, or empty cells are answers of 0 in one of the files.
    """

    raters: list[Values] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    answered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Official:
    """The SDK's label file: its path, and the rows by video."""

    path: str
    rows: dict[str, list[csd.Rated]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """The SDK's file of timed words: its path, and the words by video."""

    path: str
    words: dict[str, list[Word]]


Lines = dict[str, dict[int, tuple[str, Clip]]]  # video -> clip -> (the file that it stands in, the line)
Ratings = dict[str, dict[int, Rated]]


def read_transcripts(layout: Layout, notes: Notes) -> Lines:
    """Every clip of every transcript. Of a clip that occurs twice the first counts."""
    found: Lines = {}
    for stem, path in layout.files("transcripts").items():
        if not is_video(stem):
            notes.add("files that are not named after a video", f"{path}: is not named after a video; not read")
            continue
        text = layout.tree.text(path)
        if text is None:
            continue
        parsed = parse_transcript(text, stem)
        for line, message in parsed.problems:
            notes.add("odd lines of transcripts", f"{path}:{line}: {message}")
        for clip in parsed.records:
            clips = found.setdefault(clip.video, {})
            where, key = f"{path}:{clip.line}", key_of(clip.video, clip.number)
            if clip.number in clips:
                before, first = clips[clip.number]
                said = f"{where}: {key} occurs a second time; the first counts ({before}:{first.line})"
                notes.add("clips that occur twice", said)
                continue
            if clip.end <= clip.start:
                said = f"{where}: {key} ends at {clip.end} s, not after its start at {clip.start} s"
                notes.add("clips that end before they begin", said)
            clips[clip.number] = (path, clip)
    return found


def read_ratings(layout: Layout, notes: Notes) -> Ratings:
    """Every rater of every clip. A row that is found again (in a renamed copy of a file) counts once."""
    found: Ratings = {}
    seen: set[tuple[str, str, int]] = set()
    for path in layout.files("labels").values():
        try:
            parsed = read_answers(layout.tree.root / path)
        except OSError as error:
            raise_resource_error(error)
            notes.add("files that cannot be read", f"{path}: cannot be read ({error.strerror or error})")
            continue
        for line, message in parsed.problems:
            notes.add("odd rows of ratings", f"{path}:{line}: {message}")
        skipped: Counter[str] = Counter(parsed.skipped)
        zeros_empty = leaves_zeros_empty(parsed.records)
        if zeros_empty:
            sentence = (
                f"{path}: holds empty cells and no 0 in {len(parsed.records)} rows: each empty cell is taken as 0"
            )
            notes.add("files of ratings without a 0", sentence)
        for answer in parsed.records:
            if answer.origin is not None:
                row = (answer.origin, answer.video, answer.clip)
                if row in seen:
                    skipped["that were read before"] += 1
                    continue
                seen.add(row)
            rated = found.setdefault(answer.video, {}).setdefault(answer.clip, Rated())
            rater = dict(zip(ITEMS, answer.values, strict=True))
            rated.raters.append(rater)
            rated.answered |= zeros_empty or answered(rater)
            if path not in rated.files:
                rated.files.append(path)
        for kind, count in sorted(skipped.items()):
            notes.add("kinds of rows that are not counted", f"{path}: {count} rows {kind} are not counted")
    return found


def read_official(layout: Layout, notes: Notes) -> Official | None:
    """The SDK's label file, if one that names all seven columns is there; the archive's own name is preferred.

    Raises InputError where there is one and h5py is missing.
    """
    files = {stem: path for stem, path in layout.files("csd").items() if "label" in stem.casefold()}
    official = None
    for stem in sorted(files, key=lambda stem: (stem != "CMU_MOSEI_Labels", stem)):
        path = files[stem]
        if official:
            notes.add(".csd files that are not read", f"{path}: is not read, {official.path} counts")
            continue
        rows = _from_csd(csd.read_labels, layout, path, notes)
        official = None if rows is None else Official(path=path, rows=rows)
    return official


def read_words(layout: Layout, notes: Notes) -> Timed | None:
    """The SDK's timed words, if they are there. Raises InputError where they are and h5py is missing."""
    for stem, path in layout.files("csd").items():
        if _WORDS.search(stem) and "vector" not in stem.casefold():
            words = _from_csd(csd.read_words, layout, path, notes)
            if words is not None:
                return Timed(path=path, words=words)
    return None


def _from_csd(
    read: Callable[[Path], tuple[dict[str, Rows], list[str]]], layout: Layout, path: str, notes: Notes
) -> dict[str, Rows] | None:
    """What is read of a .csd file, None if it cannot be; both with a note. Raises InputError where h5py is missing."""
    try:
        found, problems = read(layout.tree.root / path)
    except InputError:
        raise
    except MesmError as error:
        notes.add(".csd files that are not read", f"{path}: {error}; not read")
        return None
    problems += [f"{video[:40]!r} is no id of a video" for video in found if not is_video(video)]
    for problem in problems:
        notes.add("tables of .csd files that cannot be used", f"{path}: {problem}")
    return {video: rows for video, rows in found.items() if is_video(video)}

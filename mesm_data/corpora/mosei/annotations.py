"""Reads the annotations of CMU-MOSEI by video and clip: transcripts, ratings, and the SDK's labels and words."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from mesm_data.corpora import csd
from mesm_data.corpora.mosei.layout import Layout
from mesm_data.corpora.mosei.ratings import ITEMS, Values, has_answer, leaves_zeros_empty, read_answers
from mesm_data.corpora.mosei.transcripts import Clip, is_video_id, parse_transcript, utterance_id
from mesm_data.corpora.parsing import WarningLog
from mesm_data.errors import InputError, MesmError
from mesm_data.schema.recordings import Word
from mesm_data.storage.machine_errors import raise_resource_error

Rows = TypeVar("Rows")  # of one video

_WORDS = re.compile(r"timestamped_?words", re.IGNORECASE | re.ASCII)  # not ...WordVectors


@dataclass(slots=True, kw_only=True)
class ClipRatings:
    """The ratings of one clip.

    Attributes:
        raters: the answers of each rater, in the order of the files and their rows.
        files: the files that contain them.
        answered: whether any rater gave any answer, or empty cells mean 0 in one of the files.
    """

    raters: list[Values] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    answered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFile:
    """The SDK's label file: its path and its rows by video."""

    path: str
    rows: dict[str, list[csd.LabelRow]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WordFile:
    """The SDK's file of timed words: its path and its words by video."""

    path: str
    words: dict[str, list[Word]]


class TranscriptLine(NamedTuple):
    """A line of a transcript and the file that contains it."""

    path: str
    clip: Clip


Lines = dict[str, dict[int, TranscriptLine]]  # by video and clip
Ratings = dict[str, dict[int, ClipRatings]]  # by video and clip


def read_transcripts(layout: Layout, notes: WarningLog) -> Lines:
    """Read every clip of every transcript. If a clip occurs twice, the first is used."""
    lines: Lines = {}
    for stem, path in layout.files("transcripts").items():
        if not is_video_id(stem):
            notes.add("files that are not named after a video", f"{path}: is not named after a video; not read")
            continue
        text = layout.tree.text(path)
        if text is None:
            continue
        parsed = parse_transcript(text, stem)
        for line, message in parsed.problems:
            notes.add("odd lines of transcripts", f"{path}:{line}: {message}")
        for clip in parsed.records:
            clips = lines.setdefault(clip.video, {})
            where, key = f"{path}:{clip.line}", utterance_id(clip.video, clip.number)
            if clip.number in clips:
                first = clips[clip.number]
                sentence = f"{where}: {key} occurs a second time; the first counts ({first.path}:{first.clip.line})"
                notes.add("clips that occur twice", sentence)
                continue
            if clip.end <= clip.start:
                sentence = f"{where}: {key} ends at {clip.end} s, not after its start at {clip.start} s"
                notes.add("clips that end before they begin", sentence)
            clips[clip.number] = TranscriptLine(path, clip)
    return lines


def read_ratings(layout: Layout, notes: WarningLog) -> Ratings:
    """Read every rater of every clip. A row that occurs again (in a renamed copy of a file) counts once."""
    ratings: Ratings = {}
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
                f"{path}: contains empty cells and no 0 in {len(parsed.records)} rows: each empty cell is taken as 0"
            )
            notes.add("files of ratings without a 0", sentence)
        for answer in parsed.records:
            if answer.origin is not None:
                row = (answer.origin, answer.video, answer.clip)
                if row in seen:
                    skipped["that were read before"] += 1
                    continue
                seen.add(row)
            clip = ratings.setdefault(answer.video, {}).setdefault(answer.clip, ClipRatings())
            rater = dict(zip(ITEMS, answer.values, strict=True))
            clip.raters.append(rater)
            clip.answered |= zeros_empty or has_answer(rater)
            if path not in clip.files:
                clip.files.append(path)
        for kind, count in sorted(skipped.items()):
            notes.add("kinds of rows that are not counted", f"{path}: {count} rows {kind} are not counted")
    return ratings


def read_label_file(layout: Layout, notes: WarningLog) -> LabelFile | None:
    """Read the SDK's label file, if there is one that names all seven columns; the archive's own name is preferred.

    Raises InputError if there is one and h5py is not installed.
    """
    files = {stem: path for stem, path in layout.files("csd").items() if "label" in stem.casefold()}
    label_file = None
    for stem in sorted(files, key=lambda stem: (stem != "CMU_MOSEI_Labels", stem)):
        path = files[stem]
        if label_file:
            notes.add(".csd files that are not read", f"{path}: is not read, {label_file.path} counts")
            continue
        rows = _read_csd(csd.read_labels, layout, path, notes)
        label_file = None if rows is None else LabelFile(path=path, rows=rows)
    return label_file


def read_words(layout: Layout, notes: WarningLog) -> WordFile | None:
    """Read the SDK's timed words, if there are any. Raises InputError if so and h5py is not installed."""
    for stem, path in layout.files("csd").items():
        if _WORDS.search(stem) and "vector" not in stem.casefold():
            words = _read_csd(csd.read_words, layout, path, notes)
            if words is not None:
                return WordFile(path=path, words=words)
    return None


def _read_csd(
    read: Callable[[Path], tuple[dict[str, Rows], list[str]]], layout: Layout, path: str, notes: WarningLog
) -> dict[str, Rows] | None:
    """Read a .csd file and note its problems; None if it is unreadable. Raises InputError if h5py is not installed."""
    try:
        tables, problems = read(layout.tree.root / path)
    except InputError:
        raise
    except MesmError as error:
        notes.add(".csd files that are not read", f"{path}: {error}; not read")
        return None
    problems += [f"{video[:40]!r} is not the id of a video" for video in tables if not is_video_id(video)]
    for problem in problems:
        notes.add("tables of .csd files that cannot be used", f"{path}: {problem}")
    return {video: rows for video, rows in tables.items() if is_video_id(video)}

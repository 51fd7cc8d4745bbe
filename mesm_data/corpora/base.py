"""The terms that every corpus is put into: a Corpus holds Recordings, a Recording holds Utterances.

A recording is one video file with the utterances that are cut from it (IEMOCAP: a dialog; CMU-MOSEI: a video).
It is the unit of work: its video is decoded once. Paths are relative to the corpus root, with forward slashes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.corpora.files import printable

SYNTHETIC = "SYNTHETIC.txt"  # `mesm-data sample` puts this file into the root of a corpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word of the forced alignment, in seconds from the start of its utterance."""

    w: str
    t0: float
    t1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSource:
    """One place where an utterance's sound can be read.

    `span` is (start, end) in seconds of the file, or None where the file holds this utterance alone;
    `channel` is the channel to take, or None to take the only one (or the first).
    """

    path: str
    channel: int | None = None
    span: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The speaker's part of the video frame, as fractions of its width: left <= x < right.

    `square` is the side of the centre square that stands in where no face is found, as a fraction of the
    frame's height.
    """

    left: float = 0.0
    right: float = 1.0
    square: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """A picture source that shows one utterance alone, from its start on.

    `path` is a video file; or, where `rate` is given, a folder of images, that many a second: `images` followed by a
    number from 0 and `.jpg`.
    """

    path: str
    images: str = ""
    rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One row of a corpus, before any media is touched. `start` and `end` are seconds of the recording."""

    id: str
    dialog: str
    speaker: str
    start: float
    end: float
    text: str
    words: tuple[Word, ...] | None
    labels: Mapping[str, Any]
    audio: tuple[AudioSource, ...]  # existing files only, in order of preference
    picture: Picture
    texts: tuple[str, ...]  # the text files that this record was read from
    excerpt: Excerpt | None = None  # where its picture is too, if the recording's video cannot be used
    flags: tuple[str, ...] = ()
    # (status, reason) of a row that is known not to be built: ("excluded", a rule) or ("failed", why it cannot be).
    unbuilt: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One video file (None: there is none) and the utterances in it, sorted by (start, end, id)."""

    id: str
    video: str | None
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A scanned corpus: recordings sorted by id, and what the scan noticed and could not use, one sentence each."""

    name: str
    root: Path
    recordings: tuple[Recording, ...]
    notes: tuple[str, ...]  # valid Unicode, whatever names they quote: a finished build can be written

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", tuple(map(printable, self.notes)))

    def utterances(self) -> list[Utterance]:
        """All utterances, in the order of the recordings."""
        return [utterance for recording in self.recordings for utterance in recording.utterances]

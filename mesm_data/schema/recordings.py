"""The terms that every corpus is put into: a Corpus holds Recordings, a Recording holds Utterances.

A recording is one video file with the utterances that are cut from it (IEMOCAP: a dialog; CMU-MOSEI: a video).
It is the unit of work: its video is decoded once. Paths are relative to the corpus root, with forward slashes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesm_data.storage.safe_text import valid_unicode

if TYPE_CHECKING:
    from mesm_data.schema.corpus import CorpusSchema

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
    `channel` is the channel to take, or None to mix all of them down. `channel_per_speaker` says that each channel has
    a speaker of its own, so that a file with one channel holds several voices.
    """

    path: str
    channel: int | None = None
    span: tuple[float, float] | None = None
    channel_per_speaker: bool = False


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


def key_of(id_: str) -> str:
    """The sample key of an id: the id itself where it is letters, digits, "_" and "-", at most 88 of them.

    Any other id (with dots, slashes, spaces, accents, or longer) becomes its readable part and 8 digits of its sha256.
    """
    if re.fullmatch(r"[A-Za-z0-9_-]{1,88}", id_):
        return id_
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", id_).strip("_")[:60]
    return f"{readable}-{sha256(id_.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One row of a corpus, before any media is touched.

    `start` and `end` are seconds of the recording whose id is `recording` (None: that of the dialog). An infinite `end`
    means the file's end, which is measured when it is read. `speaker` is None where it is not known.
    """

    id: str
    dialog: str
    speaker: str | None
    start: float
    end: float
    text: str
    words: tuple[Word, ...] | None
    labels: Mapping[str, Any]
    audio: tuple[AudioSource, ...]  # existing files only, in order of preference
    picture: Picture
    texts: tuple[str, ...]  # the text files that this record was read from
    excerpt: Excerpt | None = None  # where its picture is too, if the recording's video cannot be used
    recording: str | None = None
    session: str | None = None
    split: str | None = None  # the part in which the corpus' own table puts it
    flags: tuple[str, ...] = ()
    # (status, reason) of a row that is known not to be built: ("excluded", a rule) or ("failed", why it cannot be).
    unbuilt: tuple[str, str] | None = None

    @property
    def key(self) -> str:
        """What names the utterance in shards and manifest."""
        return key_of(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One video file (None: there is none) and the utterances in it, sorted by (start, end, id)."""

    id: str
    video: str | None
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A scanned corpus: recordings sorted by id, and what the scan noticed and could not use, one sentence each."""

    schema: "CorpusSchema"
    root: Path
    recordings: tuple[Recording, ...]
    notes: tuple[str, ...]  # valid Unicode, whatever names they quote: a finished build can be written
    file: Path | None = None  # the table or corpus.toml that it was read from, if it was
    table_sha256: str | None = None

    @property
    def name(self) -> str:
        """The corpus' name, as its schema gives it."""
        return self.schema.name

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", tuple(map(valid_unicode, self.notes)))

    def utterances(self) -> list[Utterance]:
        """All utterances, in the order of the recordings."""
        return [utterance for recording in self.recordings for utterance in recording.utterances]

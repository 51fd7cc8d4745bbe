"""The common form of every corpus: a Corpus has Recordings, a Recording has Utterances.

A recording is one video file and the utterances that are cut from it (IEMOCAP: a dialog; CMU-MOSEI: a video). It is
the unit of work: its video is decoded once. Paths are relative to the corpus root, with forward slashes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mesm_data.storage.safe_text import valid_unicode

if TYPE_CHECKING:
    from mesm_data.schema.corpus import CorpusSchema

SYNTHETIC_MARKER = "SYNTHETIC.txt"  # `mesm-data sample` writes this file into the root of a corpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word of the forced alignment. Times are seconds from the start of the utterance."""

    word: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSource:
    """A file from which an utterance's audio can be read.

    Attributes:
        channel: the channel to take, from 0; None mixes all channels down.
        span: (start, end) in seconds of the file; None if the file contains this utterance only.
        channel_per_speaker: whether each channel records one speaker, so that a mono file mixes several voices.
        is_open: whether the utterance has no end of its own, but the file's, which the build has measured.
    """

    path: str
    channel: int | None = None
    span: tuple[float, float] | None = None
    channel_per_speaker: bool = False
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRegion:
    """The speaker's part of the video frame, as fractions of the frame's width: left <= x < right.

    Attributes:
        square: side of the centre square that is used if no face is found, as a fraction of the frame's height.
    """

    left: float = 0.0
    right: float = 1.0
    square: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSource:
    """A video file or a folder of images that shows one utterance only, from its start.

    Attributes:
        path: a video file; a folder of images if `rate` is set.
        images: prefix of the images' names; a number from 0 and `.jpg` follow.
        rate: images per second.
    """

    path: str
    images: str = ""
    rate: float | None = None


class Exclusion(NamedTuple):
    """Why the scan rules an utterance out of the build.

    `status` is "excluded" (`reason` is the name of a rule) or "failed" (`reason` is a sentence).
    """

    status: str
    reason: str


def sample_key(id_: str) -> str:
    """Return the sample key of an utterance id.

    An id of at most 88 letters, digits, "_" and "-" is its own key. The key of any other id (with dots, slashes,
    spaces or accents, or longer) is its readable part and 8 digits of its sha256.
    """
    if re.fullmatch(r"[A-Za-z0-9_-]{1,88}", id_):
        return id_
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", id_).strip("_")[:60]
    return f"{readable}-{sha256(id_.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One utterance of a corpus, before any media file is opened.

    Attributes:
        dialog: the conversation; in CMU-MOSEI, the video.
        speaker: None if unknown.
        start, end: seconds of the recording. An infinite `end` is the end of the file, which the build measures.
        words: the forced alignment; None if there is none.
        audio: existing files, in order of preference.
        region: the speaker's part of the recording's video.
        annotation_files: the text files from which this record was read.
        clip_source: another source of the video, used if the recording's own is unusable.
        recording: id of the recording whose clock `start` and `end` use; None: the dialog's.
        split: the part to which the corpus' own table assigns the utterance.
        exclusion: why the utterance is not built; None if it is.
    """

    id: str
    dialog: str
    speaker: str | None
    start: float
    end: float
    text: str
    words: tuple[Word, ...] | None
    labels: Mapping[str, Any]
    audio: tuple[AudioSource, ...]
    region: VideoRegion
    annotation_files: tuple[str, ...]
    clip_source: ClipSource | None = None
    recording: str | None = None
    session: str | None = None
    split: str | None = None
    flags: tuple[str, ...] = ()
    exclusion: Exclusion | None = None

    @property
    def key(self) -> str:
        """The name of the utterance in shards and manifest."""
        return sample_key(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A video file (None if there is none) and its utterances, sorted by (start, end, id).

    Attributes:
        missing_video: the reason for which `video` is None. None: nothing is missing, the corpus has only their sound.
    """

    id: str
    video: str | None
    utterances: tuple[Utterance, ...]
    missing_video: str | None = "no video file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A scanned corpus.

    Attributes:
        recordings: sorted by id.
        notes: one sentence for each thing that the scan noticed or could not use. Valid Unicode, whatever names they
            quote, so that the dataset can be written.
        file: the table or corpus.toml that describes the corpus, if there is one.
    """

    schema: "CorpusSchema"
    root: Path
    recordings: tuple[Recording, ...]
    notes: tuple[str, ...]
    file: Path | None = None

    @property
    def name(self) -> str:
        """The corpus' name in its schema."""
        return self.schema.name

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", tuple(map(valid_unicode, self.notes)))

    def utterances(self) -> list[Utterance]:
        """Return all utterances, in the order of the recordings."""
        return [utterance for recording in self.recordings for utterance in recording.utterances]

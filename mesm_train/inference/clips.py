"""From a media file to what a model reads, by the code of the build: the same faces and samples to the bit."""

import math
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mesm_data.corpora.table.media_files import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from mesm_data.dataset.members import normalize_text
from mesm_data.dataset.recipe import Recipe
from mesm_data.dataset.sample import Sample
from mesm_data.errors import InputError
from mesm_data.media.audio import AudioReader, utterance_duration
from mesm_data.media.audio_segment import AudioSegment
from mesm_data.media.duration import measure_duration
from mesm_data.media.extract import extract_video
from mesm_data.media.faces.crop import FaceCropper
from mesm_data.media.faces.detector import Detection, FaceDetector
from mesm_data.media.video_result import VideoResult
from mesm_data.schema.recordings import AudioSource, Recording, Utterance, VideoRegion, Word

NAMES = {"t": "text", "v": "faces", "a": "sound"}  # of the modalities, in the order of the fusion
FaceChoice = Literal["left", "right"] | int | None
_HALVES = {"left": (0.0, 0.5), "right": (0.5, 1.0)}
_SHORT = 0.1  # seconds of sound whose absence is no news: a codec's last packet, the longer stream of a file
_REMEMBERED = 64  # pictures: overlapping windows ask for the same frames again


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A stretch of a media file, and what is known of it.

    Attributes:
        path: a video or audio file.
        start: seconds of the file.
        end: likewise; infinite: the end of the file.
        text: what is said; None: it is not known.
        words: the words of the text with their times, in seconds from `start`.
        speaker: who speaks, as subtitles name them.
        audio: another file that holds the sound, on the clock of `path`.
        channel: the channel of the sound, from 1; None: the mean of all.
        face: whose face is cut. None: the largest of each frame. "left", "right": the largest in that half of the
            picture. N: the N-th from the left of the whole picture, from 1.
    """

    path: Path
    start: float = 0.0
    end: float = math.inf
    text: str | None = None
    words: tuple[Word, ...] | None = None
    speaker: str | None = None
    audio: Path | None = None
    channel: int | None = None
    face: FaceChoice = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and 0 <= self.start < self.end):
            raise InputError(f"{self.path}: from {self.start} s to {self.end} s is no stretch of a clip")
        if self.face not in (None, "left", "right") and not (isinstance(self.face, int) and self.face >= 1):
            raise InputError(f"face {self.face!r}: expected left, right, or a number from 1")
        if self.channel is not None and self.channel < 1:
            raise InputError(f"channel {self.channel}: expected 1 or more")

    @property
    def source(self) -> tuple[object, ...]:
        """What is equal for clips that one pass over the files can decode."""
        return self.path, self.audio, self.channel, self.face


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClipInput:
    """A decoded clip, as a sample of a dataset holds it.

    Attributes:
        clip: where it comes from; `end` is finite.
        faces: uint8 (n, size, size, 3) RGB, one crop every `frame_interval` seconds.
        times: seconds from the clip's start, (n,).
        boxes: left, top, right, bottom in pixels of the picture that was searched (one half of it for left, right).
        counts: how many faces were found in each frame; 0: the crop is the centre of the picture.
        samples: int16 (n,) at `sample_rate` Hz.
        text: the text, "" if there is none.
        problems: modality -> why it is missing or incomplete, in words.
    """

    clip: Clip
    faces: NDArray[np.uint8]
    times: tuple[float, ...] = ()
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    counts: tuple[int, ...] = ()
    samples: NDArray[np.int16]
    sample_rate: int
    frame_interval: float
    text: str
    problems: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        seconds = len(self.samples) / self.sample_rate
        return f"ClipInput({self.clip.path.name}: {len(self.faces)} faces, {seconds:.1f} s of sound, {self.text!r:.42})"

    @property
    def key(self) -> str:
        """The name of the clip in sentences."""
        return f"{self.clip.path.name} {self.clip.start:g}-{self.clip.end:g} s"

    @property
    def present(self) -> dict[str, bool]:
        """Modality -> whether the clip has it."""
        return {"t": bool(self.text.strip()), "v": len(self.faces) > 0, "a": len(self.samples) > 0}

    def notes(self, modalities: Sequence[str]) -> list[str]:
        """What a reader of the prediction should know, one sentence each."""
        notes = [f"{NAMES[m]}: {self.problems[m]}" for m in modalities if m in self.problems and self.present[m]]
        if "v" in modalities and self.faces.size:
            frames, undetected = len(self.counts), self.counts.count(0)
            if undetected:
                notes.append(
                    f"no face was detected in {undetected} of {frames} frames: the centre of the picture stands in"
                )
            if several := sum(count > 1 for count in self.counts):
                which = "the largest" if self.clip.face is None else f"--face {self.clip.face}"
                notes.append(f"{several} of {frames} frames show up to {max(self.counts)} faces: {which} was taken")
        if "a" in modalities and len(self.samples) and not self.samples.any():
            notes.append("the sound is digital silence")
        return notes


def decode(
    clips: Sequence[Clip],
    recipe: Recipe,
    modalities: Sequence[str],
    *,
    square: float = 1.0,
    undetected: str = "keep",
    detector: FaceDetector | None = None,
) -> list[ClipInput]:
    """Decode clips of one `source` in one pass over its files.

    Args:
        clips: stretches of the same file, which may overlap.
        recipe: how the training data were made.
        modalities: those that the model reads; faces are not searched without "v".
        square: side of the centre square where no face is found, relative to the frame's height.
        undetected: keep, or skip that square.
        detector: finds the faces; None: the recipe's, if it needs no model file.

    Raises:
        InputError: the file does not exist.
        MesmError: the length of the file cannot be measured.
    """
    first = clips[0]
    for path in filter(None, (first.path, first.audio)):
        if not path.is_file():
            raise InputError(f"{path}: there is no such file")
    if any(math.isinf(clip.end) for clip in clips):
        length = measure_duration(first.path)
        clips = [replace(clip, end=length) if math.isinf(clip.end) else clip for clip in clips]
    channel = None if first.channel is None else first.channel - 1
    left, right = _HALVES.get(str(first.face), (0.0, 1.0))
    folder = first.path.absolute().parent
    sound_file = str(first.audio.absolute()) if first.audio else first.path.name
    utterances = tuple(
        Utterance(
            id=f"{number:06d}",
            dialog=first.path.name,
            speaker=clip.speaker,
            start=clip.start,
            end=clip.end,
            text=clip.text or "",
            words=clip.words,
            labels={},
            audio=(AudioSource(path=sound_file, channel=channel, span=(clip.start, clip.end)),),
            region=VideoRegion(left=left, right=right, square=square),
            annotation_files=(),
        )
        for number, clip in enumerate(clips)
    )
    sounds = _sounds(folder, utterances, recipe) if "a" in modalities else [None] * len(clips)
    videos: list[VideoResult | None] = [None] * len(clips)
    if "v" in modalities:
        videos = [*_videos(first, utterances, recipe, detector)]
    if undetected == "skip":
        videos = [video and _without_undetected(video) for video in videos]
    return [
        _input(clip, sound, video, recipe, modalities) for clip, sound, video in zip(clips, sounds, videos, strict=True)
    ]


def _sounds(folder: Path, utterances: Sequence[Utterance], recipe: Recipe) -> list[AudioSegment]:
    reader = AudioReader(folder, utterances, recipe.sample_rate)
    return [reader.read(utterance.audio, utterance_duration(utterance)) for utterance in utterances]


def _videos(
    clip: Clip, utterances: Sequence[Utterance], recipe: Recipe, detector: FaceDetector | None
) -> list[VideoResult]:
    path = clip.path.absolute()
    video = None if path.suffix.lower() in AUDIO_SUFFIXES else path.name
    chosen = ChosenFace(detector or recipe.detector(), clip.face if isinstance(clip.face, int) else None)
    cutter = FaceCropper(size=recipe.face_size, margin=recipe.face_margin, detector=chosen)
    recording = Recording(id="clip", video=video, utterances=tuple(utterances))
    nothing = [np.zeros(0, np.int16)] * len(utterances)
    with tempfile.TemporaryDirectory(prefix="mesm-predict-") as scratch:
        return extract_video(path.parent, recording, recipe, nothing, Path(scratch), cutter)


def _without_undetected(video: VideoResult) -> VideoResult:
    """Skip the crops of frames in which no face was detected, as the loader does with `loader.undetected: skip`."""
    kept = [index for index, face in enumerate(video.faces) if face.detected]
    skipped = len(video.faces) - len(kept)
    if not skipped:
        return video
    remaining = replace(video, faces=[video.faces[i] for i in kept], times=[video.times[i] for i in kept])
    return remaining.with_problems(f"no face was detected in {skipped} of {len(video.faces)} frames, which are skipped")


def _input(
    clip: Clip, sound: AudioSegment | None, video: VideoResult | None, recipe: Recipe, modalities: Sequence[str]
) -> ClipInput:
    size = recipe.face_size
    faces = np.zeros((len(video.faces) if video else 0, size, size, 3), np.uint8)
    for index, face in enumerate(video.faces if video else ()):
        faces[index] = face.crop
    problems = {"v": video.problems if video else (), "a": sound.problems if sound else ()}
    if sound and len(sound.samples) >= (clip.end - clip.start - _SHORT) * recipe.sample_rate:
        problems["a"] = ()
    described = {modality: "; ".join(dict.fromkeys(lines)) for modality, lines in problems.items() if lines}
    if "t" in modalities and not (clip.text or "").strip():
        described["t"] = "no text" if clip.text is None else "the text is empty"
    return ClipInput(
        clip=clip,
        faces=faces,
        times=tuple(video.times) if video else (),
        boxes=tuple(face.box for face in video.faces) if video else (),
        counts=tuple(face.count for face in video.faces) if video else (),
        samples=sound.samples if sound else np.zeros(0, np.int16),
        sample_rate=recipe.sample_rate,
        frame_interval=float(recipe.frame_interval),
        text=normalize_text(clip.text or ""),
        problems=described,
    )


def of_sample(sample: Sample, frame_interval: float, undetected: str = "keep") -> ClipInput:
    """A sample of a dataset as a decoded clip, whose path is the key."""
    record = sample.record
    faces, words = record["faces"], record["words"]
    kept = [i for i, is_face in enumerate(faces["detected"]) if is_face or undetected == "keep"]
    return ClipInput(
        clip=Clip(
            path=Path(sample.key),
            start=record["start"],
            end=record["end"],
            text=sample.text,
            words=None
            if words is None
            else tuple(Word(word=word["w"], start=word["t0"], end=word["t1"]) for word in words),
            speaker=record["speaker"],
        ),
        faces=sample.faces[kept],
        times=tuple(faces["times"][i] for i in kept),
        boxes=tuple(tuple(faces["boxes"][i]) for i in kept),
        counts=tuple(faces["counts"][i] for i in kept),
        samples=sample.samples,
        sample_rate=sample.sample_rate,
        frame_interval=frame_interval,
        text=sample.text,
    )


class ChosenFace:
    """A face detector whose first face is the one that was chosen, and which searches each picture once.

    Overlapping windows show the same frames; a digest of a frame takes 1 ms, its faces 50.
    """

    def __init__(self, detector: FaceDetector, number: int | None = None) -> None:
        """`number`: take the N-th face from the left, from 1, instead of the largest."""
        self._detector, self._number = detector, number
        self.model, self.library = detector.model, detector.library
        self._known: OrderedDict[bytes, list[Detection]] = OrderedDict()

    @property
    def digest(self) -> str:
        """That of the detector."""
        return self._detector.digest

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """The faces in a picture (height, width, 3) RGB, the chosen one first; none if there are fewer than N."""
        key = blake2b(picture.tobytes(), digest_size=16, key=repr(picture.shape).encode()).digest()
        if key not in self._known:
            self._known[key] = self._choose(self._detector.detect(picture))
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return self._known[key]

    def _choose(self, faces: list[Detection]) -> list[Detection]:
        if self._number is None:
            return faces
        if len(faces) < self._number:
            return []
        chosen = sorted(faces, key=lambda face: face.box[0] + face.box[2])[self._number - 1]
        return [chosen, *(face for face in faces if face is not chosen)]


def find_clips(names: Sequence[str]) -> list[Path]:
    """The media files that names mean: files, folders (all media files below them) and patterns with * ? [ ].

    Raises InputError if a name means nothing, or two names mean the same file.
    """
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            below = sorted(file for file in path.rglob("*") if is_media(file))
            if not below:
                raise InputError(f"{name}: there is no video or audio file in this folder")
        elif path.exists():
            below = [path]
        else:
            parts = [index for index, part in enumerate(path.parts) if any(c in part for c in "*?[")]
            base = Path(*path.parts[: parts[0]]) if parts else path
            below = sorted(filter(is_media, base.glob("/".join(path.parts[parts[0] :])))) if parts else []
            if not below:
                raise InputError(f"{name}: there is no such {'media file' if parts else 'file'}")
        paths += below
    if twice := [path for path, count in Counter(path.absolute() for path in paths).items() if count > 1]:
        raise InputError(f"{twice[0]} is named twice")
    return paths


def is_media(path: Path) -> bool:
    """Whether a path is a file with the ending of a video or audio file."""
    return path.suffix.lower() in VIDEO_SUFFIXES | AUDIO_SUFFIXES and path.is_file()

"""From a media file to what a model reads, by the code of the build: the same faces and samples to the bit."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import repeat, takewhile
from pathlib import Path

import numpy as np

from mesm_data.corpora.table.media_files import AUDIO_SUFFIXES
from mesm_data.dataset.members import normalize_text
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError
from mesm_data.media.audio import AudioReader, utterance_duration
from mesm_data.media.audio_segment import AudioSegment
from mesm_data.media.extract import iter_faces, to_fraction
from mesm_data.media.extraction_job import ExtractionJob
from mesm_data.media.faces.crop import FaceCropper
from mesm_data.media.faces.detector import FaceDetector
from mesm_data.media.frame import Frame
from mesm_data.media.frame_sampling import TimeSpan
from mesm_data.media.video import Video
from mesm_data.media.video_result import VideoResult
from mesm_data.schema.recordings import AudioSource, Utterance, VideoRegion
from mesm_train.inference.ahead import IsStopped
from mesm_train.inference.chosen_face import ChosenFace
from mesm_train.inference.clips import Clip, ClipInput, FaceChoice, no_face
from mesm_train.inference.file_end import to_file_end

_HALVES = {"left": (0.0, 0.5), "right": (0.5, 1.0)}
MAX_SOUND = 1200.0  # seconds of clips whose sound is in memory at a time: 38 MB
_SHORT = 0.1  # seconds of sound whose absence is no news: a codec's last packet, the longer stream of a file


def decode(
    clips: Sequence[Clip],
    recipe: Recipe,
    modalities: Sequence[str],
    *,
    square: float = 1.0,
    undetected: str = "keep",
    detector: FaceDetector | None = None,
    is_stopped: IsStopped = lambda: False,
) -> Iterator[ClipInput]:
    """Decode clips of one `source` in one pass over its video.

    Of a long video, only a stretch is in memory at a time: see `iter_faces` and `MAX_SOUND`.

    Args:
        clips: stretches of the same file, which may overlap.
        recipe: how the training data were made.
        modalities: those that the model reads; faces are not searched without "v".
        square: side of the centre square where no face is found, relative to the frame's height.
        undetected: keep, or skip that square.
        detector: finds the faces; None: the recipe's, if it needs no model file.
        is_stopped: asked before each frame: whether the clips are no longer wanted. Those that follow lack faces.

    Yields:
        The decoded clips, in the order of `clips`.

    Raises:
        InputError: the file does not exist.
        MesmError: the length of the file cannot be measured.
    """
    first = clips[0]
    for path in filter(None, (first.path, first.audio)):
        if not path.is_file():
            raise InputError(f"{path}: there is no such file")
    clips = to_file_end(clips)
    utterances = as_utterances(clips, square)
    folder, count = first.path.absolute().parent, len(clips)
    sounds = _sounds(folder, utterances, recipe) if "a" in modalities else repeat(None, count)
    videos = _videos(first, utterances, recipe, detector, is_stopped) if "v" in modalities else repeat(None, count)
    for clip, sound, video in zip(clips, sounds, videos, strict=True):
        shown = _without_undetected(video, clip.face) if video is not None and undetected == "skip" else video
        yield _input(clip, sound, shown, recipe, modalities)


def as_utterances(clips: Sequence[Clip], square: float) -> tuple[Utterance, ...]:
    """Clips of one `source` as a corpus' reader describes utterances, for the code of the build."""
    first = clips[0]
    left, right = _HALVES.get(str(first.face), (0.0, 1.0))
    sound_file = str(first.audio.absolute()) if first.audio else first.path.name
    channel = None if first.channel is None else first.channel - 1
    return tuple(
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


def _sounds(folder: Path, utterances: Sequence[Utterance], recipe: Recipe) -> Iterator[AudioSegment]:
    """The sound of each utterance. A file that must be converted is decoded again for each `MAX_SOUND` seconds."""
    for some in _in_stretches(utterances, MAX_SOUND):
        reader = AudioReader(folder, some, recipe.sample_rate)
        for utterance in some:
            yield reader.read(utterance.audio, utterance_duration(utterance))


def _in_stretches(utterances: Sequence[Utterance], seconds: float) -> Iterator[list[Utterance]]:
    """Consecutive utterances of `seconds` together; a longer one is alone."""
    some: list[Utterance] = []
    total = 0.0
    for utterance in utterances:
        length = utterance.end - utterance.start
        if some and total + length > seconds:
            yield some
            some, total = [], 0.0
        some.append(utterance)
        total += length
    yield some


class _StoppableVideo(Video):
    """A video whose pass can be stopped between two frames: in a long file, the next clip may be minutes away."""

    def __init__(self, path: Path, is_stopped: IsStopped) -> None:
        super().__init__(path)
        self._is_stopped = is_stopped

    def frames(self) -> Iterator[Frame]:
        """The frames, until the pass is stopped."""
        return takewhile(lambda _: not self._is_stopped(), super().frames())


def _videos(
    clip: Clip,
    utterances: Sequence[Utterance],
    recipe: Recipe,
    detector: FaceDetector | None,
    is_stopped: IsStopped,
) -> Iterator[VideoResult]:
    """The faces of each utterance, in their order: results that come before their turn are held."""
    path = clip.path.absolute()
    if path.suffix.lower() in AUDIO_SUFFIXES:
        yield from (VideoResult().with_problems("no video file") for _ in utterances)
        return
    chosen = ChosenFace(detector or recipe.detector(), clip.face if isinstance(clip.face, int) else None)
    job = ExtractionJob(
        open=lambda: _StoppableVideo(path, is_stopped),
        name=path.name,
        utterances=utterances,
        spans=[TimeSpan(start=to_fraction(each.start), end=to_fraction(each.end)) for each in utterances],
        sounds=(),
        options=recipe,
        scratch=path.parent,  # of clips, which are not encoded
        cropper=FaceCropper(size=recipe.face_size, margin=recipe.face_margin, detector=chosen),
    )
    early: dict[int, VideoResult] = {}
    turn = 0
    for index, result in iter_faces(job):
        early[index] = result
        while turn in early:
            yield early.pop(turn)
            turn += 1


def _without_undetected(video: VideoResult, face: FaceChoice) -> VideoResult:
    """Skip the crops of frames in which no face was detected, as the loader does with `loader.undetected: skip`."""
    kept = [index for index, crop in enumerate(video.faces) if crop.detected]
    skipped = len(video.faces) - len(kept)
    if not skipped:
        return video
    remaining = replace(video, faces=[video.faces[i] for i in kept], times=[video.times[i] for i in kept])
    return remaining.with_problems(f"{no_face(face)} in {skipped} of {len(video.faces)} frames, which are skipped")


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
        picture_width=video.size[0] if video and video.size else None,
        samples=sound.samples if sound else np.zeros(0, np.int16),
        sample_rate=recipe.sample_rate,
        frame_interval=float(recipe.frame_interval),
        text=normalize_text(clip.text or ""),
        problems=described,
    )

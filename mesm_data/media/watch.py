"""One pass over a recording's video: the faces and the clip of every utterance in it."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mesm_data.corpora.base import Picture, Recording
from mesm_data.errors import MesmError
from mesm_data.media.clips import ClipSet
from mesm_data.media.crop import Face, face
from mesm_data.media.cut import Cutter, Span
from mesm_data.media.video import Video, columns, rgb
from mesm_data.recipe import Recipe

if TYPE_CHECKING:
    from mesm_data.media.mtcnn import Detector


@dataclass(slots=True, kw_only=True)
class Sight:
    """What one pass over the video found for one utterance. `size` is (width, height) of the speaker's picture."""

    faces: list[Face] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # seconds from the utterance's start
    status: str = "none"
    fps: float | None = None
    size: tuple[int, int] | None = None
    clip: Path | None = None  # a file in the scratch folder
    problems: list[str] = field(default_factory=list)


def watch(
    root: Path, recording: Recording, recipe: Recipe, sounds: Sequence[NDArray[np.int16]], scratch: Path
) -> list[Sight]:
    """What is seen of a recording's utterances, in their order. Clips, with `sounds` in them, go to `scratch`."""
    sights = [Sight() for _ in recording.utterances]
    try:
        if recording.video is None:
            raise MesmError("no video file")
        video = Video(root / recording.video)
    except MesmError as error:
        for sight in sights:
            sight.problems.append(f"{recording.video}: {error}" if recording.video else str(error))
        return sights
    spans = [Span(start=Fraction(repr(u.start)), end=Fraction(repr(u.end))) for u in recording.utterances]
    cutter = Cutter(video, spans, Fraction(recipe.frame_interval))
    clips = ClipSet(scratch, spans, sounds) if recipe.clips else None
    try:
        for cut in cutter:
            utterance, sight = recording.utterances[cut.index], sights[cut.index]
            left, right = columns(utterance.picture, cut.frame.image.width)
            sight.size = (right - left, cut.frame.image.height)
            sight.fps = round(float(video.rate), 6)
            if cut.ticks:
                found = look(rgb(cut.frame.image, left, right), utterance.picture, recipe)
                sight.faces += [found] * cut.ticks
                sight.times += [round(float(cut.frame.time - spans[cut.index].start), 4)] * cut.ticks
            if clips and cut.inside:
                clips.add(cut, left, right)
        for index, sight in enumerate(sights):
            judge(sight, spans[index], cutter.end, video, recording.video)
            if clips:
                sight.clip, problem = clips.collect(index)
                sight.problems += [problem] if problem else []
    finally:
        video.close()
        if clips:
            clips.abort()
    return sights


def look(picture: NDArray[np.uint8], part: Picture, recipe: Recipe) -> Face:
    """The speaker's face in one picture."""
    square = min(round(part.square * picture.shape[0]), *picture.shape[:2])
    detections = detector(recipe.min_face_size).detect(picture)
    return face(picture, detections, size=recipe.face_size, margin=recipe.face_margin, square=square)


@functools.cache
def detector(min_face_size: int) -> "Detector":
    """The detector of this process."""
    from mesm_data.media.mtcnn import Detector

    return Detector(min_face_size=min_face_size)


def judge(sight: Sight, span: Span, end: Fraction | None, video: Video, name: str) -> None:
    """Set the status of an utterance's picture: does the video cover it?"""
    if broken := video.damage(span.start, span.end):
        sight.problems.append(f"{name}: {broken} packets could not be decoded")
    if end is None or end >= span.end - (1 / video.rate if video.rate else 0):
        sight.status = "ok" if sight.faces else "none"
        return
    sight.status = "partial" if sight.faces else "none"
    stopped = f" ({video.stopped})" if video.stopped else ""
    sight.problems.append(f"{name}: ends at {float(end):.3f} s{stopped}, the utterance at {float(span.end):.3f} s")

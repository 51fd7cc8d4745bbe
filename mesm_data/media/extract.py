"""What is seen of a recording's utterances: the faces and the clip of each, from one pass over a film.

The film is the recording's video. Where that is missing, broken, or over before the utterance is, the utterance's own
excerpt (a video file, or a folder of images) is looked at too, and the better of both is kept.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import MesmError
from mesm_data.media.clip_encoder import ClipSet, rounds
from mesm_data.media.faces.crop import Face, FaceCutter
from mesm_data.media.frame_sampling import Cutter, FrameSource, Span
from mesm_data.media.image_sequence import Images
from mesm_data.media.options import MediaOptions
from mesm_data.media.pixels import columns, rgb, size
from mesm_data.media.video import Video
from mesm_data.schema.recordings import ClipSource, Recording, Utterance


class Film(FrameSource, Protocol):
    """A video file, or a folder of images. `stopped` is known after the pass."""

    rate: Fraction
    stopped: str | None

    def damage(self, start: Fraction, end: Fraction) -> str | None:
        """What is missing from `start` to `end` inside the film, after the pass, if anything is."""
        ...

    def close(self) -> None:
        """Release the files."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Where pictures were taken from: a file, or (a pattern for) the `images`, paths; `span` in its seconds."""

    path: str
    span: tuple[float, float]
    images: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Sight:
    """What was found for one utterance. `size` is (width, height) of the speaker's picture."""

    faces: list[Face] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # seconds from the utterance's start
    status: str = "none"
    fps: float | None = None
    size: tuple[int, int] | None = None
    clip: Path | None = None  # a file in the scratch folder
    source: Seen | None = None  # None: no face was cut
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One film and what is to be cut from it: utterances, their spans in its seconds, their sounds.

    `name` stands for the film in sentences and records; `scratch` is the folder for clips, whose names begin with
    `clip`. `faces` cuts the faces.
    """

    open: Callable[[], Film]
    name: str
    utterances: Sequence[Utterance]
    spans: Sequence[Span]
    sounds: Sequence[NDArray[np.int16]]
    options: MediaOptions
    scratch: Path
    faces: FaceCutter
    clip: str = ""


def watch(
    root: Path,
    recording: Recording,
    options: MediaOptions,
    sounds: Sequence[NDArray[np.int16]],
    scratch: Path,
    faces: FaceCutter | None = None,
) -> list[Sight]:
    """What is seen of a recording's utterances, in their order. Clips, with `sounds` in them, go to `scratch`.

    `faces` cuts the faces; by default by the detector of `options`, if that needs no model file.
    """
    faces = faces or FaceCutter(size=options.face_size, margin=options.face_margin, detector=options.detector())
    utterances, offset = recording.utterances, Fraction(options.video_offset)
    sights = [Sight() for _ in utterances]
    if recording.video is not None:
        path = root / recording.video
        scene = Scene(
            open=lambda: Video(path),
            name=recording.video,
            utterances=utterances,
            spans=[Span(start=exact(u.start) + offset, end=exact(u.end) + offset) for u in utterances],
            sounds=sounds,
            options=options,
            scratch=scratch,
            faces=faces,
        )
        sights = show(scene)
    for index, (utterance, sound) in enumerate(zip(utterances, sounds, strict=True)):
        if sights[index].status == "ok":
            continue
        if utterance.clip_source:
            own = show_excerpt(
                root, utterance, utterance.clip_source, options, sound, scratch, f"excerpt-{index}-", faces
            )
            sights[index] = better(sights[index], own)
        elif recording.video is None:
            sights[index].problems.append("no video file")
    return sights


def show_excerpt(
    root: Path,
    utterance: Utterance,
    excerpt: ClipSource,
    options: MediaOptions,
    sound: NDArray[np.int16],
    scratch: Path,
    clip: str,
    faces: FaceCutter,
) -> Sight:
    """What is seen of one utterance in the excerpt that shows it alone."""
    path, rate = root / excerpt.path, excerpt.rate

    def film() -> Film:
        return Video(path) if rate is None else Images(path, excerpt.images, rate)

    [sight] = show(
        Scene(
            open=film,
            name=excerpt.path if rate is None else f"{excerpt.path}/{excerpt.images}*.jpg",
            utterances=[utterance],
            spans=[Span(start=Fraction(0), end=exact(utterance.end) - exact(utterance.start))],
            sounds=[sound],
            options=options,
            scratch=scratch,
            clip=clip,
            faces=faces,
        )
    )
    return sight


def show(scene: Scene) -> list[Sight]:
    """One pass over a film for the faces and, as far as encoders can run at once, the clips; more for other clips."""
    sights = [Sight() for _ in scene.utterances]
    groups = rounds(scene.spans) if scene.options.clips else []
    try:
        first_pass(scene, sights, groups[0] if groups else set())
        for group in groups[1:]:
            more_clips(scene, sights, sorted(group))
    except MesmError as error:
        for sight in sights:
            sight.problems.append(f"{scene.name}: {error}")
    return sights


def first_pass(scene: Scene, sights: list[Sight], clipped: set[int]) -> None:
    """Fill in `sights`, with the clips of the utterances `clipped`. Raises MesmError if the film cannot be opened."""
    interval = Fraction(scene.options.frame_interval)
    late = [Fraction(0)] * len(sights)
    rate = scene.options.sample_rate
    clips = ClipSet(scene.scratch, scene.spans, scene.sounds, rate=rate, name=scene.clip)
    with closing(scene.open()) as film:
        cutter = Cutter(film, scene.spans, interval)
        try:
            for cut in cutter:
                index = cut.index
                clipped_now = cut.inside and index in clipped
                if not (cut.ticks or clipped_now):
                    continue
                sight, part, start = sights[index], scene.utterances[index].region, scene.spans[index].start
                width, height = size(cut.frame)
                left, right = columns(part, width)
                if cut.ticks:  # and nothing of a sample hangs on its clip
                    sight.size = (right - left, height)
                    sight.fps = round(float(film.rate), 6)
                    late[index] = max(late[index], cut.frame.time - start - len(sight.faces) * interval)
                    square = min(round(part.square * height), right - left, height)
                    picture, key = rgb(cut.frame, left, right), scene.utterances[index].key
                    sight.faces += [scene.faces.cut(picture, key, len(sight.faces), square=square)] * cut.ticks
                    sight.times += [round(float(cut.frame.time - start), 4)] * cut.ticks
                if clipped_now:
                    clips.add(cut, left, right)
            for index, sight in enumerate(sights):
                judge(sight, scene, index, cutter.end, film, hole=late[index] > interval)
                collect(clips, sight, index)
        finally:
            clips.abort()


def more_clips(scene: Scene, sights: list[Sight], group: list[int]) -> None:
    """Another pass over the film, for the clips of the utterances `group` alone."""
    spans = [scene.spans[index] for index in group]
    sounds, name = [scene.sounds[index] for index in group], f"{scene.clip}{group[0]}-"
    clips = ClipSet(scene.scratch, spans, sounds, rate=scene.options.sample_rate, name=name)
    with closing(scene.open()) as film:
        try:
            for cut in Cutter(film, spans, Fraction(scene.options.frame_interval)):
                if cut.inside:
                    part = scene.utterances[group[cut.index]].region
                    clips.add(cut, *columns(part, size(cut.frame)[0]))
            for place, index in enumerate(group):
                collect(clips, sights[index], place)
        finally:
            clips.abort()


def collect(clips: ClipSet, sight: Sight, index: int) -> None:
    """Take a finished clip over."""
    sight.clip, problem = clips.collect(index)
    sight.problems += [problem] if problem else []


def exact(second: float) -> Fraction:
    """A number of seconds as it is written: 0.1 is a tenth."""
    return Fraction(repr(second))


def better(main: Sight, own: Sight) -> Sight:
    """The sight of the recording's video or that of the excerpt; what is wrong with either is said."""
    order = ("none", "partial", "ok")
    chosen = own if order.index(own.status) > order.index(main.status) else main
    chosen.problems = [*main.problems, *own.problems]
    return chosen


def judge(sight: Sight, scene: Scene, index: int, end: Fraction | None, film: Film, *, hole: bool) -> None:
    """Set the status of an utterance's picture, and its source: does the film cover it?

    `end` is that of the film, None if it goes on behind the last utterance. A `hole` is a face that comes more than
    one interval late: a still picture of a healthy film, or where damage has cost frames.
    """
    span = scene.spans[index]
    damage = film.damage(span.start, span.end)
    if damage:
        sight.problems.append(f"{scene.name}: {damage}")
    if sight.faces:
        sight.status = "partial" if hole and damage else "ok"
        images = film.names if isinstance(film, Images) else ()
        folder = scene.name.rpartition("/")[0]
        sight.source = Seen(
            path=scene.name,
            span=(float(span.start), float(span.end)),
            images=tuple(f"{folder}/{name}" for name in images),
        )
    if end is None or end >= span.end - (1 / film.rate if film.rate else 0):
        if not sight.faces:
            sight.problems.append(f"{scene.name}: shows no picture of the utterance")
        return
    sight.status = "partial" if sight.faces else "none"
    stopped = f" ({film.stopped})" if film.stopped else ""
    length = f"ends at {float(end):.3f} s{stopped}, the utterance at {float(span.end):.3f} s"
    sight.problems.append(f"{scene.name}: {length}")

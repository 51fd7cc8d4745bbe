"""Clips, and what a model reads of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mesm_data.dataset.sample import Sample
from mesm_data.errors import InputError
from mesm_data.schema.recordings import Word
from mesm_train.data.batch import MODALITY_NAMES

FaceChoice = Literal["left", "right"] | int | None


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
        notes: what else a reader of the prediction should know, one sentence each.
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
    notes: tuple[str, ...] = ()

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
        picture_width: of the picture that was searched, in pixels; None if there is none.
        samples: int16 (n,) at `sample_rate` Hz.
        text: the text, "" if there is none.
        problems: modality -> why it is missing or incomplete, in words.
    """

    clip: Clip
    faces: NDArray[np.uint8]
    times: tuple[float, ...] = ()
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    counts: tuple[int, ...] = ()
    picture_width: int | None = None
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
        return f"{self.clip.path.name} {self.clip.start:.2f}-{self.clip.end:.2f} s"

    @property
    def present(self) -> dict[str, bool]:
        """Modality -> whether the clip has it."""
        return {"t": bool(self.text.strip()), "v": len(self.faces) > 0, "a": len(self.samples) > 0}

    def without(self, problems: Mapping[str, str]) -> "ClipInput":
        """The same without some modalities; `problems` says why of each."""
        kept = replace(self, problems={**self.problems, **problems})
        if "t" in problems:
            kept = replace(kept, text="", clip=replace(self.clip, words=None))
        if "v" in problems:
            kept = replace(kept, faces=self.faces[:0], times=(), boxes=(), counts=())
        return replace(kept, samples=self.samples[:0]) if "a" in problems else kept

    def notes(self, modalities: Sequence[str]) -> list[str]:
        """What a reader of the prediction should know, one sentence each."""
        notes = [
            *self.clip.notes,
            *(f"{MODALITY_NAMES[m]}: {self.problems[m]}" for m in modalities if m in self.problems and self.present[m]),
        ]
        if "v" in modalities and self.faces.size:
            frames, undetected = len(self.counts), self.counts.count(0)
            if undetected:
                notes.append(
                    f"{no_face(self.clip.face)} in {undetected} of {frames} frames: the centre of the picture stands in"
                )
            if several := sum(count > 1 for count in self.counts):
                which = "the largest" if self.clip.face is None else f"--face {self.clip.face}"
                notes.append(f"{several} of {frames} frames show up to {max(self.counts)} faces: {which} was taken")
        if "a" in modalities and len(self.samples) and not self.samples.any():
            notes.append("the sound is digital silence")
        return notes


def no_face(face: FaceChoice) -> str:
    """Why a frame has no face of its own, in words."""
    return f"fewer than {face} faces were detected" if isinstance(face, int) and face > 1 else "no face was detected"


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
        picture_width=record["video"]["width"],
        samples=sample.samples,
        sample_rate=sample.sample_rate,
        frame_interval=frame_interval,
        text=sample.text,
    )

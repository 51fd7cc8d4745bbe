"""Importance by occlusion: how much each output falls when a modality, a word, a face or a stretch of sound is missing.

The effect of a part is the logit with it minus the logit without it, so positive parts speak for a class. A modality, a
word or a face is left out, as if the utterance did not have it; a stretch of sound is set to silence, so that the rest
keeps its place. The text also guides the sparse blocks of MESM, so the effect of a word includes what it changes there.
Occlusion measures one part at a time: of two parts that say the same, neither need have an effect (Zeiler and Fergus
2014 describe the method for pictures).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np

from mesm_data.storage.progress import Step, no_step
from mesm_train.data.batch import MODALITY_NAMES
from mesm_train.inference.clips import ClipInput
from mesm_train.inference.predictor import Predictor

Value = TypeVar("Value")
BATCH = 16  # variants that go through the model at once
MAX_FACES = 24  # parts that the faces are divided into at most; likewise below
MAX_STRETCHES = 24
MAX_WORDS = 80
SHORTEST_STRETCH = 0.4  # seconds: a piece of sound of the acoustic stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of an utterance and its effect.

    Attributes:
        kind: modality, word, face or sound.
        name: the modality or the word; "" for faces and sound.
        start, end: seconds from the start of the utterance; None where they are not known.
        index: the first face of the part, or the number of the word or stretch.
        effect: the logits with the part minus those without it, one for each output.
    """

    kind: str
    name: str
    start: float | None
    end: float | None
    index: int
    effect: tuple[float, ...]


def occlude(predictor: Predictor, content: ClipInput, *, step: Step = no_step) -> list[Part]:
    """Take away each part of an utterance in turn.

    Args:
        predictor: the trained model.
        content: the utterance.
        step: called with a number of forward passes that are done; `count_passes` has their sum.
    """
    parts, variants = [], []
    for part, variant in _variants(predictor, content):
        parts.append(part)
        variants.append(variant)
    logits = []
    for start in range(0, len(variants) + 1, BATCH):
        some = [content, *variants][start : start + BATCH]
        logits += (
            [list(one.logits.values()) for one in predictor.predict_inputs(some, keep_input=False)] if some else []
        )
        step(len(some))
    complete, *others = np.array(logits)
    return [
        replace(part, effect=tuple((complete - without).tolist())) for part, without in zip(parts, others, strict=True)
    ]


def count_passes(predictor: Predictor, content: ClipInput) -> int:
    """How many forward passes `occlude` needs."""
    return 1 + sum(1 for _ in _variants(predictor, content))


def _variants(predictor: Predictor, content: ClipInput) -> Iterator[tuple[Part, ClipInput]]:
    """Each part with the utterance that lacks it. A part that is all of a modality stands for the modality only."""
    present = [m for m in predictor.modalities if content.present[m]]
    for modality in present if len(present) > 1 else ():
        yield _part("modality", MODALITY_NAMES[modality]), without_modality(content, modality)
    if "t" in present:
        yield from _without_words(content)
    if "v" in present:
        yield from _without_faces(content)
    if "a" in present:
        yield from _with_silence(content)


def without_modality(content: ClipInput, modality: str) -> ClipInput:
    """The utterance without its text (t), faces (v) or sound (a)."""
    if modality == "t":
        return replace(content, text="")
    if modality == "v":
        return replace(content, faces=content.faces[:0], times=(), boxes=(), counts=())
    return replace(content, samples=content.samples[:0])


def _without_words(content: ClipInput) -> Iterator[tuple[Part, ClipInput]]:
    words = content.text.split()
    timed = content.clip.words or ()
    known = len(timed) == len(words)
    for index, word in enumerate(words[:MAX_WORDS] if len(words) > 1 else ()):
        start, end = (timed[index].start, timed[index].end) if known else (None, None)
        rest = " ".join(words[:index] + words[index + 1 :])
        yield _part("word", word, start, end, index), replace(content, text=rest)


def _without_faces(content: ClipInput) -> Iterator[tuple[Part, ClipInput]]:
    count = len(content.faces)
    groups = np.array_split(np.arange(count), min(count, MAX_FACES)) if count > 1 else []
    for group in groups:
        first, last = int(group[0]), int(group[-1])
        start, end = _face_time(content, first), _face_time(content, last + 1)
        yield _part("face", "", start, end, first), without_faces(content, range(first, last + 1))


def without_faces(content: ClipInput, numbers: range) -> ClipInput:
    """The utterance without some of its faces."""

    def others(values: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(value for number, value in enumerate(values) if number not in numbers)

    return replace(
        content, faces=np.delete(content.faces, numbers, axis=0), times=others(content.times),
        boxes=others(content.boxes), counts=others(content.counts),
    )  # fmt: skip


def _face_time(content: ClipInput, number: int) -> float:
    return content.times[number] if number < len(content.times) else number * content.frame_interval


def _with_silence(content: ClipInput) -> Iterator[tuple[Part, ClipInput]]:
    seconds = len(content.samples) / content.sample_rate
    count = min(MAX_STRETCHES, int(seconds / SHORTEST_STRETCH))
    edges = np.linspace(0, len(content.samples), count + 1).astype(int).tolist() if count > 1 else []
    for index, (start, end) in enumerate(pairwise(edges)):
        samples = content.samples.copy()
        samples[start:end] = 0
        rate = content.sample_rate
        yield _part("sound", "", start / rate, end / rate, index), replace(content, samples=samples)


def _part(kind: str, name: str, start: float | None = None, end: float | None = None, index: int = 0) -> Part:
    return Part(kind=kind, name=name, start=start, end=end, index=index, effect=())

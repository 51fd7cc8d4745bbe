"""Changes of training samples, drawn for (seed, epoch, sample): the same on any rank and after any resume."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mesm_train.config.settings import AugmentConfig
from mesm_train.data.mel import HOP, MELS, SAMPLE_RATE, SHORTEST
from mesm_train.data.plan import derived

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmented:
    """A sample as the model is to see it. `masks`: int64 (4,), what of its mel spectrogram is silenced (MelPieces)."""

    faces: NDArray[np.uint8]
    text: str
    masks: Ints


def augment(
    settings: AugmentConfig, faces: NDArray[np.uint8], text: str, samples: int, *, seed: int, epoch: int, key: str
) -> Augmented:
    """Flip and jitter the faces (n, size, size, 3), drop words of the text, choose masks for `samples` of sound.

    All faces of an utterance are flipped and shifted alike: they are one person in one place.
    SpecAugment (Park et al. 2019) with one mask in time and one in frequency.
    """
    random = np.random.default_rng(derived(seed, "augment", epoch, key))
    flip, shift = (
        random.random() < settings.face_flip,
        random.integers(-settings.face_shift, settings.face_shift + 1, 2),
    )
    light = 1 + settings.face_light * random.uniform(-1, 1)
    kept = random.random(len(text.split())) >= settings.word_dropout
    columns = 1 + max(samples, SHORTEST) // HOP if samples else 0
    masks = (
        *_span(random, settings.mask_seconds * SAMPLE_RATE / HOP, columns),
        *_span(random, settings.mask_mels, MELS),
    )
    if flip:
        faces = faces[:, :, ::-1]
    if shift.any():
        faces = _shifted(faces, *shift.tolist())
    if light != 1:
        faces = np.clip(np.rint(faces * np.float32(light)), 0, 255).astype(np.uint8)
    words = [word for word, keep in zip(text.split(), kept, strict=True) if keep]
    return Augmented(
        faces=faces,
        text=text if kept.all() else " ".join(words or text.split()[:1]),  # a text does not become a missing one
        masks=np.array(masks, np.int64),
    )


def _span(random: np.random.Generator, most: float, length: int) -> tuple[int, int]:
    """A random stretch of 0 to `most` items of `length`, and never more than half of them."""
    size = int(random.integers(0, int(min(most, length / 2)) + 1))
    first = int(random.integers(0, length - size + 1))
    return first, first + size


def _shifted(faces: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """The crops moved by some pixels; the edge is repeated."""
    size = faces.shape[1]
    rows = np.clip(np.arange(size) - down, 0, size - 1)
    columns = np.clip(np.arange(size) - right, 0, size - 1)
    return faces[:, rows[:, None], columns]

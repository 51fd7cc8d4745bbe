"""Augmentation of training samples, seeded by (seed, epoch, sample): the same on any rank and after any resume."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mesm_train.config.settings import AugmentConfig
from mesm_train.data.mel import HOP, MELS, MIN_SAMPLES, SAMPLE_RATE
from mesm_train.data.plan import derive_seed

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmented:
    """An augmented sample. `masks`: int64 (4,), the masked columns and filters of its spectrogram, see MelPieces."""

    faces: NDArray[np.uint8]
    text: str
    masks: Ints


def augment(
    settings: AugmentConfig, faces: NDArray[np.uint8], text: str, samples: int, *, seed: int, epoch: int, key: str
) -> Augmented:
    """Flip, shift and brighten faces, drop words, and draw SpecAugment masks.

    All faces of an utterance are changed alike: they show one person in one place. The masks are those of SpecAugment
    (Park et al. 2019), one in time and one in frequency.

    Args:
        settings: How strongly samples are changed.
        faces: (n, size, size, 3).
        text: The transcript.
        samples: The number of audio samples.
        seed: The seed of the run.
        epoch: The epoch, from 0.
        key: The key of the sample, with `seed` and `epoch` the seed of all random choices.
    """
    random = np.random.default_rng(derive_seed(seed, "augment", epoch, key))
    flip, shift = (
        random.random() < settings.face_flip,
        random.integers(-settings.face_shift, settings.face_shift + 1, 2),
    )
    light = 1 + settings.face_light * random.uniform(-1, 1)
    is_kept = random.random(len(text.split())) >= settings.word_dropout
    columns = 1 + max(samples, MIN_SAMPLES) // HOP if samples else 0
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
    words = [word for word, keep in zip(text.split(), is_kept, strict=True) if keep]
    return Augmented(
        faces=faces,
        text=text if is_kept.all() else " ".join(words or text.split()[:1]),  # at least one word stays
        masks=np.array(masks, np.int64),
    )


def _span(random: np.random.Generator, most: float, length: int) -> tuple[int, int]:
    """A random range of at most `most` of `length` items, and at most half of them."""
    size = int(random.integers(0, int(min(most, length / 2)) + 1))
    first = int(random.integers(0, length - size + 1))
    return first, first + size


def _shifted(faces: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """The faces shifted by some pixels; the edge is repeated."""
    size = faces.shape[1]
    rows = np.clip(np.arange(size) - down, 0, size - 1)
    columns = np.clip(np.arange(size) - right, 0, size - 1)
    return faces[:, rows[:, None], columns]

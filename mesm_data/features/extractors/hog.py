"""Histograms of oriented gradients of the face crops by scikit-image, where the faces are, and their landmarks."""

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mesm_data.dataset.sample import Sample
from mesm_data.errors import InputError
from mesm_data.features.base import Description, ExtractSample, Features, SampleExtractor
from mesm_data.media.faces.mtcnn import MtcnnDetector
from mesm_data.media.faces.weights import WEIGHTS_SHA256

ORIENTATIONS, CELLS = 8, 3  # 3 x 3 cells of a crop, normalised in blocks of 2 x 2: 4 blocks of 32 numbers
DIM = (CELLS - 1) ** 2 * 4 * ORIENTATIONS
BOX = ("box_x", "box_y", "box_size", "detected")  # the box's centre and size, of the picture's width; 1 if detected
POINTS = ("eye_left", "eye_right", "nose", "mouth_left", "mouth_right")  # left in the picture
LANDMARKS = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")
LICENCE = "Computed by scikit-image (BSD licence) from the corpus' pictures: the corpus' own terms hold"


@dataclass(frozen=True)
class HOG(SampleExtractor):
    """128 numbers of each crop (Dalal and Triggs, CVPR 2005) and 4 of its box in the picture.

    Of kind hog-landmarks, also the five landmarks of MTCNN as shares of the crop's side, 0 where no face was detected.
    The shards have boxes only, so O-net locates the landmarks in the crops.
    """

    kind: str = "hog"

    def describe(self) -> Description:
        """Raises InputError without the package scikit-image."""
        if find_spec("skimage") is None:
            raise InputError("hog needs scikit-image: pip install 'mesm[hog]'")
        return Description(
            columns=(*(f"hog_{number}" for number in range(DIM)), *BOX, *(LANDMARKS if self._with_landmarks else ())),
            hop=None,
            licence=LICENCE,
            config={
                "orientations": ORIENTATIONS,
                "cells": CELLS,
                "block": 2,
                "norm": "L2-Hys",
                **({"landmarks": WEIGHTS_SHA256["onet"]} if self._with_landmarks else {}),
            },
            libraries={"scikit-image": version("scikit-image")},
        )

    @property
    def _with_landmarks(self) -> bool:
        return self.kind == "hog-landmarks"

    def open_sample(self, folder: Path | None) -> ExtractSample:
        """Load the library, and O-net if it is needed."""
        from skimage.feature import hog

        detector = MtcnnDetector() if self._with_landmarks else None

        def extract(sample: Sample) -> Features:
            size = sample.faces.shape[1]
            cell = (size // CELLS, size // CELLS)
            grey = sample.faces.astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 255
            vectors = [
                hog(crop, orientations=ORIENTATIONS, pixels_per_cell=cell, cells_per_block=(2, 2), block_norm="L2-Hys")
                for crop in grey
            ]
            parts = [np.array(vectors).reshape(len(vectors), DIM), _boxes(sample)]
            if detector is not None:
                detected = np.array(sample.record["faces"]["detected"], bool)
                parts.append(detector.landmarks(sample.faces).reshape(-1, len(LANDMARKS)) * detected[:, None])
            values = np.concatenate(parts, axis=1)
            times = np.array(sample.record["faces"]["times"], np.float64)
            return Features(values=values.astype(np.float32), times=times)

        return extract


def _boxes(sample: Sample) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The columns BOX of each crop, (n, 4)."""
    record = sample.record
    if not len(sample.faces):
        return np.zeros((0, len(BOX)))
    boxes = np.array(record["faces"]["boxes"], np.float64).reshape(-1, 4)
    width = float(record["video"]["width"] or 1)
    detected = np.array(record["faces"]["detected"], np.float64)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    return np.concatenate([centre / width, size / width, detected[:, None]], axis=1)

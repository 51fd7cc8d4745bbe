"""Histograms of oriented gradients of the face crops, and where the faces are, by scikit-image."""

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mesm_data.dataset.sample import Sample
from mesm_data.errors import InputError
from mesm_data.features.base import Description, ExtractSample, Features, SampleExtractor

ORIENTATIONS, CELLS = 8, 3  # 3 x 3 cells of a crop, normalised in blocks of 2 x 2: 4 blocks of 32 numbers
DIM = (CELLS - 1) ** 2 * 4 * ORIENTATIONS
BOX = ("box_x", "box_y", "box_size", "detected")  # the box's centre and size, of the picture's width; 1 if detected
LICENCE = "Computed by scikit-image (BSD licence) from the corpus' pictures: the corpus' own terms hold"


@dataclass(frozen=True)
class HOG(SampleExtractor):
    """128 numbers of each crop (Dalal and Triggs, CVPR 2005) and 4 of its box in the picture."""

    kind = "hog"

    def describe(self) -> Description:
        """Raises InputError without the package scikit-image."""
        if find_spec("skimage") is None:
            raise InputError("hog needs scikit-image: pip install 'mesm[hog]'")
        return Description(
            columns=(*(f"hog_{number}" for number in range(DIM)), *BOX),
            hop=None,
            licence=LICENCE,
            config={"orientations": ORIENTATIONS, "cells": CELLS, "block": 2, "norm": "L2-Hys"},
            libraries={"scikit-image": version("scikit-image")},
        )

    def open_sample(self, folder: Path | None) -> ExtractSample:
        """Nothing to load but the library."""
        from skimage.feature import hog

        def extract(sample: Sample) -> Features:
            size = sample.faces.shape[1]
            cell = (size // CELLS, size // CELLS)
            grey = sample.faces.astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 255
            vectors = [
                hog(crop, orientations=ORIENTATIONS, pixels_per_cell=cell, cells_per_block=(2, 2), block_norm="L2-Hys")
                for crop in grey
            ]
            values = np.concatenate([np.array(vectors).reshape(len(vectors), DIM), _boxes(sample)], axis=1)
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

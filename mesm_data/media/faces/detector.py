"""The interface of a face detector, and the names of the detectors."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

DETECTORS = ("mtcnn", "yunet")
EXACT_DETECTORS = ("mtcnn",)  # detectors whose boxes are identical on every machine
MAX_LONG_SIDE, MAX_SHORT_SIDE = 960, 576  # pixels of an image up to which a detector reads every pixel


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A detected face. Coordinates are pixels from the top left corner of the image.

    Attributes:
        box: Left, top, right, bottom; it may reach beyond the image.
        score: The probability, rounded to 2 decimals.
        landmarks: (x, y) of the left eye, right eye, nose, left and right corner of the mouth (left in the image).
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[tuple[float, float], ...]


class FaceDetector(Protocol):
    """Detects faces.

    Attributes:
        model: The sha256 of the model file, if the detector needs one.
        library: The name and version of the library that runs the model, likewise.
    """

    model: str | None
    library: str | None

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over the weights, the settings and all else that the boxes depend on."""
        ...

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Detect the faces in an image (height, width, 3) RGB, largest box first. Raises ValueError on other arrays."""
        ...


def check_image(image: NDArray[np.uint8]) -> None:
    """Raises ValueError if an array is not an image (height, width, 3) of uint8."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected a picture (height, width, 3) of uint8, found {image.shape} of {image.dtype}")


def sampling_step(height: int, width: int) -> int:
    """The step between rows and columns that a detector reads: 1 up to 960x576 pixels, 2 up to twice that, ..."""
    return max(1, -(-max(height, width) // MAX_LONG_SIDE), -(-min(height, width) // MAX_SHORT_SIDE))

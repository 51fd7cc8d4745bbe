"""What a build needs of a face detector, and which detectors there are."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

DETECTORS = ("mtcnn", "yunet")
EXACT_DETECTORS = ("mtcnn",)  # detectors that find the same boxes on every machine
MAX_LONG_SIDE, MAX_SHORT_SIDE = 960, 576  # sides of a picture, in pixels, up to which a detector looks at every pixel


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A face. Coordinates are pixels of the picture, from its top left corner; the box may reach over the edge.

    `box` is left, top, right, bottom; `score` the probability, rounded to 2 decimals; `landmarks` are the left eye,
    right eye, nose, left and right corner of the mouth (left as seen in the picture), each (x, y).
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[tuple[float, float], ...]


class FaceDetector(Protocol):
    """Finds faces in pictures.

    `model` is the sha256 of the model file that the user gave, `library` what computes it; None: there is none.
    """

    model: str | None
    library: str | None

    @property
    def digest(self) -> str:
        """16 hexadecimal digits for the weights, the settings and all else that decides which boxes are found."""
        ...

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """The faces in a picture (height, width, 3) RGB, largest box first. Raises ValueError on any other array."""
        ...


def check_image(picture: NDArray[np.uint8]) -> None:
    """Raises ValueError if an array is not a picture (height, width, 3) of uint8."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"expected a picture (height, width, 3) of uint8, found {picture.shape} of {picture.dtype}")


def sampling_step(height: int, width: int) -> int:
    """Every how many rows and columns of a picture a detector looks at: 1 up to 960x576 pixels, 2 up to twice that."""
    return max(1, -(-max(height, width) // MAX_LONG_SIDE), -(-min(height, width) // MAX_SHORT_SIDE))

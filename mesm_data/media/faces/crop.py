"""Crop the speaker's face to a square image, in integer arithmetic: the pixels are identical on every machine."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mesm_data.media.faces.detector import Detection, FaceDetector

_BAND = 6  # rows of the result that are computed together


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceCrop:
    """The crop of one image.

    Attributes:
        crop: uint8 (size, size, 3) RGB.
        box: The pixels of the image that it shows: left, top, right, bottom; right and bottom not included.
        score: The probability of the detection (2 decimals), 0.0 if there is none.
        count: The number of faces in the image, of which this is the largest.
    """

    crop: NDArray[np.uint8]
    box: tuple[int, int, int, int]
    score: float
    count: int

    @property
    def detected(self) -> bool:
        """Whether a face was detected; otherwise the crop is the centre of the image."""
        return self.count > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceBox:
    """The place of a face that a lock records: `box`, `score` and `count` of the FaceCrop."""

    box: tuple[int, int, int, int]
    score: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceCropper:
    """Crops the speaker's face: at the box that a lock records, otherwise the largest face that the detector finds.

    Args:
        size: See `crop_face`.
        margin: See `crop_face`.
        detector: The face detector; without one, no face is detected.
        face_boxes: The box of each crop of an utterance, by the utterance's key.
    """

    size: int
    margin: int
    detector: FaceDetector | None
    face_boxes: Mapping[str, Sequence[FaceBox]] = field(default_factory=dict)

    def crop(self, image: NDArray[np.uint8], key: str, number: int, *, square: int) -> FaceCrop:
        """Make one crop of an utterance.

        Args:
            image: uint8 (height, width, 3) RGB.
            key: The key of the utterance.
            number: The number of the crop.
            square: See `crop_face`.
        """
        recorded = self.face_boxes.get(key, ())[number : number + 1]
        if recorded and (face := crop_at(image, recorded[0], self.size)):
            return face
        detections = self.detector.detect(image) if self.detector else []
        return crop_face(image, detections, size=self.size, margin=self.margin, square=square)


def crop_at(image: NDArray[np.uint8], face: FaceBox, size: int) -> FaceCrop | None:
    """Crop a known box of an image (height, width, 3); None if the box does not lie inside the image."""
    left, top, right, bottom = face.box
    if not (0 <= left < right <= image.shape[1] and 0 <= top < bottom <= image.shape[0]):
        return None
    return FaceCrop(crop=_crop_box(image, face.box, size), box=face.box, score=face.score, count=face.count)


def crop_face(
    image: NDArray[np.uint8], detections: Iterable[Detection], *, size: int = 48, margin: int = 2, square: int
) -> FaceCrop:
    """Crop the largest face of an image, or its centre if there is none.

    Args:
        image: uint8 (height, width, 3) RGB.
        detections: The result of `FaceDetector.detect`, largest face first.
        size: The side of the crop in pixels.
        margin: The pixels of the crop, both sides together, that lie around the detected box.
        square: The side of the centre square in pixels of the image, limited by the image.
    """
    height, width = image.shape[:2]
    faces = []
    for detection in detections:
        box = _with_margin(detection.box, height, width, margin / (size - margin))
        if box[0] < box[2] and box[1] < box[3]:  # at least one pixel lies inside the image
            faces.append((box, detection.score))
    box, score = faces[0] if faces else (_centre(height, width, square), 0.0)
    return FaceCrop(crop=_crop_box(image, box, size), box=box, score=score, count=len(faces))


def resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize an image (height, width, 3) to a square (size, size, 3), both uint8, by area.

    A new pixel is the mean of the pixels that it covers, weighted by area, whether the image is enlarged or reduced.
    Halves are rounded up. OpenCV's INTER_AREA, which facenet-pytorch crops with, differs in the rounding only.
    """
    height, width = image.shape[:2]
    rows, columns = _weights(height, size), _weights(width, size)
    total = height * width
    new = np.empty((size, size, 3), np.uint8)
    # Whole numbers below 2**24 in float32 (the sum of a column is at most 255 times the height), then below 2**53 in
    # float64: exact in any order of summation, at the speed of the BLAS.
    assert height < 2**16
    for first in range(
        0, size, _BAND
    ):  # a few new rows need only a few old ones: 0.33 ms instead of 0.70 ms for 360x360
        last = min(first + _BAND, size)
        top, bottom = first * height // size, -(-last * height // size)
        old = image[top:bottom].reshape(bottom - top, -1).astype(np.float32)
        wide = (rows[first:last, top:bottom].astype(np.float32) @ old).reshape(-1, width, 3)
        channels = wide.transpose(0, 2, 1).reshape(-1, width).astype(np.float64)
        sums = (channels @ columns.T).reshape(-1, 3, size).transpose(0, 2, 1).astype(np.int64)
        new[first:last] = (2 * sums + total) // (2 * total)
    return new


@functools.lru_cache(32)
def _weights(length: int, size: int) -> NDArray[np.float64]:
    """The weights (size, length) of `length` pixels in `size` new ones: whole numbers; each row adds up to `length`."""
    # In units of 1 / size, pixel p covers [p * size, (p + 1) * size), new pixel i [i * length, (i + 1) * length).
    old = np.arange(length)
    new = np.arange(size)[:, None]
    end = np.minimum((old + 1) * size, (new + 1) * length)
    overlap: NDArray[np.int64] = np.maximum(end - np.maximum(old * size, new * length), 0)
    return overlap.astype(np.float64)


def _with_margin(
    box: tuple[float, float, float, float], height: int, width: int, share: float
) -> tuple[int, int, int, int]:
    """The pixels of a box that is enlarged by `share` and clipped to the image, as facenet-pytorch's `extract_face`."""
    left, top, right, bottom = box
    x, y = share * (right - left) / 2, share * (bottom - top) / 2
    return int(max(left - x, 0)), int(max(top - y, 0)), int(min(right + x, width)), int(min(bottom + y, height))


def _centre(height: int, width: int, side: int) -> tuple[int, int, int, int]:
    side = min(side, height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _crop_box(image: NDArray[np.uint8], box: tuple[int, int, int, int], size: int) -> NDArray[np.uint8]:
    left, top, right, bottom = box
    return resize(image[top:bottom, left:right], size)

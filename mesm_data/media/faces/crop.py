"""From a picture and what was found in it to one square face, in integers: the same bytes everywhere."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mesm_data.media.faces.detector import Detection, FaceDetector

_BAND = 6  # rows of a new picture that are made together


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceCrop:
    """The face of a picture.

    `crop` is (size, size, 3) uint8 RGB; `box` the pixels of the picture that it shows: left, top, right, bottom,
    right and bottom not included; `score` the probability of the detection (2 decimals), 0.0 if there was none; `count`
    how many faces were found in the picture, of which this is the largest.
    """

    crop: NDArray[np.uint8]
    box: tuple[int, int, int, int]
    score: float
    count: int

    @property
    def detected(self) -> bool:
        """Whether a face was found; else the crop is the centre of the picture."""
        return self.count > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceBox:
    """Where the face of a picture is, as a lock says: `box`, `score` and `count` of the Face that was cut there."""

    box: tuple[int, int, int, int]
    score: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceCropper:
    """Cuts the speaker's face from pictures: at a known place, else where the detector finds the largest face.

    Args:
        size, margin: see `face`.
        detector: None: no face is found where no place is known.
        places: key -> one place for each crop of the utterance, as a lock says.
    """

    size: int
    margin: int
    detector: FaceDetector | None
    places: Mapping[str, Sequence[FaceBox]] = field(default_factory=dict)

    def cut(self, picture: NDArray[np.uint8], key: str, number: int, *, square: int) -> FaceCrop:
        """Crop `number` of an utterance from its picture (height, width, 3) uint8 RGB; `square` as for `face`."""
        known = self.places.get(key, ())[number : number + 1]
        if known and (there := crop_at(picture, known[0], self.size)):
            return there
        detections = self.detector.detect(picture) if self.detector else []
        return crop_face(picture, detections, size=self.size, margin=self.margin, square=square)


def crop_at(picture: NDArray[np.uint8], place: FaceBox, size: int) -> FaceCrop | None:
    """The face at a known place of a picture (height, width, 3); None if the picture does not reach so far."""
    left, top, right, bottom = place.box
    if not (0 <= left < right <= picture.shape[1] and 0 <= top < bottom <= picture.shape[0]):
        return None
    return FaceCrop(crop=_cut(picture, place.box, size), box=place.box, score=place.score, count=place.count)


def crop_face(
    picture: NDArray[np.uint8], detections: Iterable[Detection], *, size: int = 48, margin: int = 2, square: int
) -> FaceCrop:
    """The largest face in a picture, or its centre where there is none.

    Args:
        picture: (height, width, 3) uint8 RGB.
        detections: of `FaceDetector.detect`, largest first.
        size: side of the crop in pixels.
        margin: pixels of the crop, both sides together, that lie around the detected box.
        square: side of the centre square in pixels of the picture, cut to the picture.
    """
    height, width = picture.shape[:2]
    found = []
    for detection in detections:
        box = _with_margin(detection.box, height, width, margin / (size - margin))
        if box[0] < box[2] and box[1] < box[3]:  # it has a pixel inside the picture
            found.append((box, detection.score))
    box, score = found[0] if found else (_centre(height, width, square), 0.0)
    return FaceCrop(crop=_cut(picture, box, size), box=box, score=score, count=len(found))


def resize(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A picture (height, width, 3) as a square (size, size, 3), both uint8.

    By area: a new pixel is the mean of what it covers, parts of pixels by their share, whether it is larger or
    smaller than they are. Halves are rounded up. OpenCV's INTER_AREA, which facenet-pytorch crops by, does the same
    but for the rounding.
    """
    height, width = picture.shape[:2]
    rows, columns = _weights(height, size), _weights(width, size)
    total = height * width
    new = np.empty((size, size, 3), np.uint8)
    # Whole numbers, below 2**24 in float32 (a column's sum is at most 255 times the height), then below 2**53 in
    # float64: exact in any order of summation, and at the speed of the BLAS.
    assert height < 2**16
    for first in range(0, size, _BAND):  # a few new rows need a few old ones only: 0.33 against 0.70 ms for 360x360
        last = min(first + _BAND, size)
        top, bottom = first * height // size, -(-last * height // size)
        old = picture[top:bottom].reshape(bottom - top, -1).astype(np.float32)
        wide = (rows[first:last, top:bottom].astype(np.float32) @ old).reshape(-1, width, 3)
        channels = wide.transpose(0, 2, 1).reshape(-1, width).astype(np.float64)
        sums = (channels @ columns.T).reshape(-1, 3, size).transpose(0, 2, 1).astype(np.int64)
        new[first:last] = (2 * sums + total) // (2 * total)
    return new


@functools.lru_cache(32)
def _weights(length: int, size: int) -> NDArray[np.float64]:
    """What each of `length` pixels counts for in each of `size`: whole numbers (size, length), `length` a row."""
    # In units of 1 / size, pixel p covers [p * size, (p + 1) * size), place i [i * length, (i + 1) * length).
    pixel = np.arange(length)
    place = np.arange(size)[:, None]
    end = np.minimum((pixel + 1) * size, (place + 1) * length)
    overlap: NDArray[np.int64] = np.maximum(end - np.maximum(pixel * size, place * length), 0)
    return overlap.astype(np.float64)


def _with_margin(
    box: tuple[float, float, float, float], height: int, width: int, share: float
) -> tuple[int, int, int, int]:
    """The pixels of a box made wider and higher by `share`, cut to the picture; facenet-pytorch's `extract_face`."""
    left, top, right, bottom = box
    x, y = share * (right - left) / 2, share * (bottom - top) / 2
    return int(max(left - x, 0)), int(max(top - y, 0)), int(min(right + x, width)), int(min(bottom + y, height))


def _centre(height: int, width: int, side: int) -> tuple[int, int, int, int]:
    side = min(side, height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _cut(picture: NDArray[np.uint8], box: tuple[int, int, int, int], size: int) -> NDArray[np.uint8]:
    left, top, right, bottom = box
    return resize(picture[top:bottom, left:right], size)

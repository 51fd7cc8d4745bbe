"""A face detector that puts one face of several first."""

from collections import OrderedDict
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from mesm_data.media.faces.detector import Detection, FaceDetector

_REMEMBERED = 64  # pictures: overlapping windows ask for the same frames again


class ChosenFace:
    """A face detector whose first face is the one that was chosen, and which searches each picture once.

    Overlapping windows show the same frames; a digest of a frame takes 1 ms, its faces 50.
    """

    def __init__(self, detector: FaceDetector, number: int | None = None) -> None:
        """`number`: take the N-th face from the left, from 1, instead of the largest."""
        self._detector, self._number = detector, number
        self.model, self.library = detector.model, detector.library
        self._known: OrderedDict[bytes, list[Detection]] = OrderedDict()

    @property
    def digest(self) -> str:
        """That of the detector."""
        return self._detector.digest

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """The faces in a picture (height, width, 3) RGB, the chosen one first; none if there are fewer than N."""
        key = blake2b(picture.tobytes(), digest_size=16, key=repr(picture.shape).encode()).digest()
        if key not in self._known:
            self._known[key] = self._choose(self._detector.detect(picture))
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return self._known[key]

    def _choose(self, faces: list[Detection]) -> list[Detection]:
        if self._number is None:
            return faces
        if len(faces) < self._number:
            return []
        chosen = sorted(faces, key=lambda face: face.box[0] + face.box[2])[self._number - 1]
        return [chosen, *(face for face in faces if face is not chosen)]

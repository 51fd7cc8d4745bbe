"""Finding faces with YuNet (Wu, Peng, Yu: YuNet: A Tiny Millisecond-level Face Detector, Machine Intelligence Research
20, 2023), computed by OpenCV from a model file that the user gives.

OpenCV computes in floating point, with other instructions on other CPUs and other code in other versions: boxes can
differ in the last bits from machine to machine, and with them a crop by a pixel.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError, MesmError
from mesm_data.media.faces.detector import MAX_LONG_SIDE, MAX_SHORT_SIDE, Detection, check_image, sampling_step

MIN_SCORE, MAX_OVERLAP, MAX_CANDIDATES = (
    0.9,
    0.3,
    5000,
)  # OpenCV's defaults: least score, most overlap of two faces, candidates
METHOD = "yunet opencv 1"  # counted up with any change here that can move a box


class YuNetDetector:
    """The model, loaded once. Not for several threads at a time.

    `model` is the sha256 of the model file, `library` the version of OpenCV.
    """

    model: str | None
    library: str | None

    def __init__(self, path: Path, *, min_face_size: int = 40) -> None:
        """
        Args:
            path: an ONNX file with YuNet's input and outputs, such as face_detection_yunet_2023mar.onnx.
            min_face_size: faces whose longer side is shorter, in pixels of the picture, are left out.

        Raises:
            InputError: the file cannot be read, or OpenCV cannot find faces with it.
            MesmError: OpenCV is not installed.
        """
        if find_spec("cv2") is None:
            raise MesmError(
                "OpenCV, which computes the face detector yunet, is not installed: pip install 'mesm[yunet]'"
            )
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"the face model {path} cannot be read ({error.strerror})") from None
        self.min_face_size = min_face_size
        self.model = hashlib.sha256(data).hexdigest()
        self.library, self._net = _load(path, data)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits for the model file, OpenCV's version and all settings."""
        return yunet_digest(self.model or "", self.library or "", self.min_face_size)

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """The faces in a picture (height, width, 3) RGB, largest box first.

        Of a picture larger than 960x576 every second (third, ...) row and column is looked at, as by MTCNN: the model
        is made for faces of up to about 300 pixels.
        """
        check_image(picture)
        every = sampling_step(*picture.shape[:2])
        rows = _rows(self._net, picture[::every, ::every])
        rows[:, :14] *= every
        found = [face for face in map(_detection, rows) if max(_sides(face)) >= self.min_face_size]
        return sorted(found, key=lambda face: -_sides(face)[0] * _sides(face)[1])


def yunet_digest(model: str, library: str, min_face_size: int) -> str:
    """`YuNet.digest` for the sha256 of a model file and a version of OpenCV, of which neither need be here."""
    settings = (
        METHOD,
        model,
        library,
        min_face_size,
        MIN_SCORE,
        MAX_OVERLAP,
        MAX_CANDIDATES,
        MAX_LONG_SIDE,
        MAX_SHORT_SIDE,
    )
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]


def _load(path: Path, data: bytes) -> tuple[str, Any]:
    """OpenCV's version, and its detector with a model, which has looked at an empty picture."""
    import cv2

    cv2.setNumThreads(1)  # a build uses its cores for several recordings at once
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its words about a file that is no model
    try:
        nothing = np.zeros(0, np.uint8)
        buffer = np.frombuffer(data, np.uint8)
        net = cv2.FaceDetectorYN.create("onnx", buffer, nothing, (64, 64), MIN_SCORE, MAX_OVERLAP, MAX_CANDIDATES)
        _rows(net, np.zeros((64, 64, 3), np.uint8))
    except (cv2.error, ValueError) as error:
        raise InputError(
            f"the face model {path} cannot be used ({getattr(error, 'err', error)}): give the ONNX file of YuNet "
            "(https://github.com/opencv/opencv_zoo, face_detection_yunet_2023mar.onnx)"
        ) from None
    return f"opencv {cv2.__version__}", net


def _rows(net: Any, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, 15) of a picture in RGB: left, top, width, height, five landmarks (x, y), score."""
    net.setInputSize((picture.shape[1], picture.shape[0]))
    _, rows = net.detect(np.ascontiguousarray(picture[..., ::-1]))  # BGR
    return np.zeros((0, 15)) if rows is None else np.asarray(rows, np.float64)


def _detection(row: NDArray[np.float64]) -> Detection:
    left, top, width, height, *points, score = row.tolist()
    return Detection(
        box=(left, top, left + width, top + height),
        score=round(min(max(score, 0.0), 1.0), 2),
        landmarks=tuple(zip(points[::2], points[1::2], strict=True)),
    )


def _sides(face: Detection) -> tuple[float, float]:
    return face.box[2] - face.box[0], face.box[3] - face.box[1]

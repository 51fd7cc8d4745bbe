"""Face detection with YuNet, run by OpenCV from a model file of the user.

Wu, Peng, Yu: YuNet: A Tiny Millisecond-level Face Detector, Machine Intelligence Research 20, 2023.

OpenCV computes in floating point, with different instructions on different CPUs and different code in each version:
boxes can differ in the last bits between machines, and so a crop can differ by a pixel.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError, MesmError
from mesm_data.media.faces.detector import MAX_LONG_SIDE, MAX_SHORT_SIDE, Detection, check_image, sampling_step

MIN_SCORE, MAX_OVERLAP, MAX_CANDIDATES = 0.9, 0.3, 5000  # OpenCV's defaults
METHOD = "yunet opencv 1"  # counted up with each change here that can move a box


class YuNetDetector:
    """The model, loaded once. Not thread-safe.

    Args:
        path: An ONNX file with YuNet's inputs and outputs, such as face_detection_yunet_2023mar.onnx.
        min_face_size: Faces whose longer side is shorter, in pixels of the image, are dropped.

    Attributes:
        model: The sha256 of the model file.
        library: The version of OpenCV.

    Raises:
        InputError: The file cannot be read, or OpenCV cannot detect faces with it.
        MesmError: OpenCV is not installed.
    """

    model: str | None
    library: str | None

    def __init__(self, path: Path, *, min_face_size: int = 40) -> None:
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
        """16 hexadecimal digits over the model file, the version of OpenCV and all settings."""
        return yunet_digest(self.model or "", self.library or "", self.min_face_size)

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Detect the faces in an image (height, width, 3) RGB, largest box first.

        Of an image larger than 960x576 only every second (third, ...) row and column is read, as by MTCNN: the model is
        made for faces of up to about 300 pixels.
        """
        check_image(image)
        step = sampling_step(*image.shape[:2])
        rows = _run_model(self._net, image[::step, ::step])
        rows[:, :14] *= step
        faces = [face for face in map(_detection, rows) if max(_sides(face)) >= self.min_face_size]
        return sorted(faces, key=lambda face: -_sides(face)[0] * _sides(face)[1])


def yunet_digest(model: str, library: str, min_face_size: int) -> str:
    """The digest of the detector, from the sha256 of its model file and the version of OpenCV alone."""
    thresholds = (MIN_SCORE, MAX_OVERLAP, MAX_CANDIDATES, MAX_LONG_SIDE, MAX_SHORT_SIDE)
    settings = (METHOD, model, library, min_face_size, *thresholds)
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]


def _load(path: Path, data: bytes) -> tuple[str, Any]:
    """Load a model and run it once. Returns the version of OpenCV, and its detector."""
    import cv2

    cv2.setNumThreads(1)  # a build uses its cores for several recordings at once
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # no messages about a file that is not a model
    try:
        no_config = np.zeros(0, np.uint8)
        buffer = np.frombuffer(data, np.uint8)
        net = cv2.FaceDetectorYN.create("onnx", buffer, no_config, (64, 64), MIN_SCORE, MAX_OVERLAP, MAX_CANDIDATES)
        _run_model(net, np.zeros((64, 64, 3), np.uint8))
    except (cv2.error, ValueError) as error:
        raise InputError(
            f"the face model {path} cannot be used ({getattr(error, 'err', error)}): give the ONNX file of YuNet "
            "(https://github.com/opencv/opencv_zoo, face_detection_yunet_2023mar.onnx)"
        ) from None
    return f"opencv {cv2.__version__}", net


def _run_model(net: Any, image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Run the model on an RGB image. Returns (n, 15): left, top, width, height, five landmarks (x, y), score."""
    net.setInputSize((image.shape[1], image.shape[0]))
    _, rows = net.detect(np.ascontiguousarray(image[..., ::-1]))  # BGR
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

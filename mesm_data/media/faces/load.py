"""Load a face detector by name."""

import functools
from pathlib import Path

from mesm_data.media.faces.detector import FaceDetector


@functools.cache
def load_detector(name: str, min_face_size: int = 40, model: Path | None = None) -> FaceDetector:
    """Load a face detector, once per process.

    Args:
        name: One of DETECTORS.
        min_face_size: The side of the smallest face in pixels.
        model: The model file of yunet; mtcnn has none.

    Raises:
        InputError: The model file is missing, cannot be read, or is not a model of this detector.
        MesmError: A package that the detector needs is not installed.
    """
    if name == "mtcnn":
        from mesm_data.media.faces.mtcnn import MtcnnDetector

        return MtcnnDetector(min_face_size=min_face_size)
    from mesm_data.media.faces.yunet import YuNetDetector

    assert name == "yunet"
    assert model is not None
    return YuNetDetector(model, min_face_size=min_face_size)

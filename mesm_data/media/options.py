"""The options of media extraction: frames, faces, sound, clips."""

import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.media.faces.detector import DETECTORS, FaceDetector
from mesm_data.media.faces.load import load_detector

INTEGER_BOUNDS = {  # of the integer options: least, most, unit
    "face_size": (16, 1024, "pixels"),
    "min_face_size": (12, 4096, "pixels"),  # 12 is the input of MTCNN's first network
    "sample_rate": (8_000, 48_000, "Hz"),
}
INTERVAL_BOUNDS = (Decimal("0.01"), Decimal(3600))  # seconds between face crops
MAX_DECIMALS = 9  # of an interval


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaOptions:
    """The options of decoding, cropping and encoding.

    Raises:
        InputError: An option is out of bounds.
    """

    clips: bool = True  # write video/
    video_offset: str = "0"  # seconds to add to an utterance's times in the video, as a decimal number
    frame_interval: str = "0.5"  # seconds between face crops, as a decimal number
    face_size: int = 48  # pixels; 48, margin 2 and 500 ms are the published model's (Dai et al. 2021)
    face_margin: int = 2
    min_face_size: int = 40
    face_detector: str = "mtcnn"  # of DETECTORS
    face_model: str | None = None  # sha256 of the detector's model file, if it has one
    face_library: str | None = None  # the library that runs it, such as "opencv 4.12.0"
    sample_rate: int = 16_000  # Hz of the stored sound

    def __post_init__(self) -> None:
        for name, (least, most, unit) in INTEGER_BOUNDS.items():
            if type(value := getattr(self, name)) is not int or not least <= value <= most:
                raise InputError(f"{name} is {value!r}, expected {least} to {most} {unit}")
        if type(self.face_margin) is not int or not 0 <= self.face_margin < self.face_size:
            raise InputError(f"face_margin is {self.face_margin!r}, expected less than face_size ({self.face_size})")
        if self.face_detector not in DETECTORS:
            raise InputError(f"face_detector is {self.face_detector!r}, expected one of {', '.join(DETECTORS)}")
        needs_model = self.face_detector == "yunet"
        for name in ("face_model", "face_library"):
            value = getattr(self, name)
            if (value is not None) != needs_model or not isinstance(value, str | None):
                raise InputError(f"{name} is {value!r}, which does not fit face_detector {self.face_detector}")
        interval = Decimal(parse_seconds(str(self.frame_interval)))
        if not INTERVAL_BOUNDS[0] <= interval <= INTERVAL_BOUNDS[1] or interval != round(interval, MAX_DECIMALS):
            raise InputError(
                f"frame_interval is {self.frame_interval!r}, expected {INTERVAL_BOUNDS[0]} to {INTERVAL_BOUNDS[1]} s "
                f"with up to {MAX_DECIMALS} decimals"
            )
        object.__setattr__(self, "frame_interval", parse_seconds(str(self.frame_interval)))  # canonical

    def detector_digest(self) -> str:
        """The digest of the detector (see `FaceDetector.digest`), without reading its model file."""
        from mesm_data.media.faces.yunet import yunet_digest

        if self.face_model and self.face_library:
            return yunet_digest(self.face_model, self.face_library, self.min_face_size)
        return self.detector().digest

    def detector(self, model: Path | None = None) -> FaceDetector:
        """Load the face detector.

        Args:
            model: The model file, if the detector needs one.

        Raises:
            InputError: `model` is missing, or differs from the recipe's, or the library does.
        """
        _check_model_file(self.face_detector, model)
        detector = load_detector(self.face_detector, self.min_face_size, model)
        for name, value in (("face_model", detector.model), ("face_library", detector.library)):
            if value != getattr(self, name):
                raise InputError(f"{name} is {getattr(self, name)} in the recipe and {value} here ({model})")
        return detector


def detector_options(name: str, model: Path | None = None) -> dict[str, Any]:
    """The options of a recipe that identify a face detector.

    Args:
        name: One of DETECTORS.
        model: The model file, if the detector needs one.

    Raises:
        InputError: `model` is missing, is not a model file of the detector, or the detector has none.
    """
    _check_model_file(name, model)
    detector = load_detector(name, model=model)
    return {"face_detector": name, "face_model": detector.model, "face_library": detector.library}


def _check_model_file(name: str, model: Path | None) -> None:
    if name == "yunet" and model is None:
        raise InputError("the face detector yunet needs its model file: give it with --face-model")
    if name != "yunet" and model is not None:
        raise InputError(f"the face detector {name} has no model file: --face-model goes with --face-detector yunet")


def parse_seconds(text: str) -> str:
    """The canonical spelling of a number of seconds such as -0.167. Raises InputError if `text` is not one."""
    if not re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)", text.strip(), re.ASCII):
        raise InputError(f"{text!r} is not a number of seconds: write it as 0.25 or -0.167")
    number = Decimal(text.strip()).normalize()
    return f"{number:f}" if number else "0"

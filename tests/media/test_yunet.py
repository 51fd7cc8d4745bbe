"""Face detectors that a user can choose: YuNet, on a model file with its inputs and outputs (stub_yunet)."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from stub_yunet import LARGE, SMALL, model

from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError
from mesm_data.media.faces.detector import FaceDetector
from mesm_data.media.faces.load import load_detector
from mesm_data.media.faces.yunet import YuNetDetector, yunet_digest
from mesm_data.media.options import detector_options


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "stub.onnx"
    path.write_bytes(model())
    return path


def picture() -> NDArray[np.uint8]:
    """RGB, 300x200 pixels: a red cell at (80, 40) and a blue one at (160, 96)."""
    cells = np.zeros((200, 300, 3), np.uint8)
    cells[40:48, 80:88, 0] = 255
    cells[96:112, 160:176, 2] = 255
    return cells


def test_faces_are_found_largest_first_in_pixels_of_the_picture(onnx: Path) -> None:
    expected = [(160, 96, LARGE), (80, 40, SMALL)]
    for face, (x, y, side) in zip(YuNetDetector(onnx).detect(picture()), expected, strict=True):
        assert np.allclose(face.box, (x - side / 2, y - side / 2, x + side / 2, y + side / 2), atol=1e-3)
        assert face.landmarks == ((x, y),) * 5
        assert face.score == 1.0


def test_every_second_pixel_of_a_large_image_is_searched(onnx: Path) -> None:
    large, detector = np.zeros((800, 1200, 3), np.uint8), YuNetDetector(onnx)
    large[::2, ::2] = np.pad(picture(), ((0, 200), (0, 300), (0, 0)))  # what is looked at
    boxes = [face.box for face in detector.detect(large)]
    assert boxes == [tuple(2 * edge for edge in face.box) for face in detector.detect(large[::2, ::2])]
    assert np.allclose(boxes[0], (220, 92, 420, 292), atol=1e-2)


def test_faces_below_the_least_size_are_left_out(onnx: Path) -> None:
    assert [len(YuNetDetector(onnx, min_face_size=size).detect(picture())) for size in (40, 60, 200)] == [2, 1, 0]
    assert YuNetDetector(onnx).detect(np.zeros((30, 40, 3), np.uint8)) == []


def test_the_digest_names_model_library_and_settings(onnx: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(model() + b"\x08\x07")  # the same graph, the field ir_version a second time
    detectors = [YuNetDetector(onnx), YuNetDetector(onnx, min_face_size=41), YuNetDetector(other)]
    assert detectors[0].model == hashlib.sha256(onnx.read_bytes()).hexdigest()
    assert detectors[0].library == f"opencv {cv2.__version__}"
    digests = [detector.digest for detector in detectors]
    digests += [yunet_digest(detectors[0].model, "opencv 0.0", 40)]
    assert len(set(digests)) == 4
    assert YuNetDetector(onnx).digest == digests[0] == yunet_digest(detectors[0].model, detectors[0].library, 40)


def test_every_detector_refuses_arrays_that_are_not_images(onnx: Path) -> None:
    detectors: list[FaceDetector] = [load_detector("mtcnn"), load_detector("yunet", model=onnx)]
    for detector in detectors:
        with pytest.raises(ValueError, match="expected a picture"):
            detector.detect(np.zeros((40, 40), np.uint8))


@pytest.mark.parametrize("content", [None, b"", b"no model", model()[:1000]], ids=["missing", "empty", "text", "cut"])
def test_a_file_that_is_not_a_model_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"the face model {path} cannot be (read|used)") as caught:
        detector_options("yunet", path)
    assert "\n" not in str(caught.value)


def test_a_detector_and_its_model_file_are_required_together(onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs its model file"):
        detector_options("yunet")
    with pytest.raises(InputError, match="has no model file"):
        detector_options("mtcnn", onnx)
    recipe = Recipe(corpus="c", **detector_options("yunet", onnx))
    assert recipe.as_dict()["detector"] == recipe.detector(onnx).digest
    assert recipe.as_dict()["detector"] != Recipe(corpus="c").as_dict()["detector"]
    with pytest.raises(InputError, match="needs its model file"):
        recipe.detector()
    other = tmp_path / "other.onnx"
    other.write_bytes(model() + b"\x08\x07")
    with pytest.raises(InputError, match=r"face_model is .* in the recipe and .* here"):
        recipe.detector(other)
    for wrong in ({"face_detector": "haar"}, {"face_detector": "yunet"}, {"face_model": "0" * 64}):
        with pytest.raises(InputError, match=r"face_(detector|model) is"):
            Recipe(corpus="c", **wrong)  # type: ignore[arg-type]

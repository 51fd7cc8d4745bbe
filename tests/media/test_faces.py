"""Faces: the boxes of facenet-pytorch, in exact arithmetic, from weights that cannot run code."""

import hashlib
import json
import math
import os
import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from skimage.data import astronaut

from mesm_data.errors import MesmError
from mesm_data.media.faces.boxes import nms
from mesm_data.media.faces.crop import crop_face, resize
from mesm_data.media.faces.fixed_point import MAX_INPUT, FixedPointNetwork, max_pool, prelu
from mesm_data.media.faces.integral_image import IntegralImage, bin_edges
from mesm_data.media.faces.mtcnn import Detection, MtcnnDetector
from mesm_data.media.faces.weights import WEIGHTS_SHA256, load_weights, read_arrays, weights_folder

ORACLE = Path(__file__).parents[2] / "../shared/data"  # recorded with facenet-pytorch 2.6
recorded = pytest.mark.skipif(not ORACLE.is_dir(), reason="the recorded boxes are not beside the repository")

# Of all boxes, scores and landmarks, to the last bit, that `everything` finds. It must be the same on every machine.
EVERYTHING = "f3a6f7553bdf9b217349770c17d471cd8cdd3bb6f3a685d6ba80601c5f72f214"


def pictures() -> dict[str, NDArray[np.uint8]]:
    """The pictures of the oracle; its table `images` says how they are made."""
    a = astronaut()
    mosaic = np.full((480, 720, 3), 127, np.uint8)
    mosaic[100:356, 60:316] = a[::2, ::2]
    mosaic[40:168, 420:548] = a[::4, ::4]
    mosaic[200:456, 430:686] = a[::2, ::2][:, ::-1]
    return {
        "full": a,
        "mirrored": a[:, ::-1],
        "half": a[::2, ::2],
        "quarter": a[::4, ::4],
        "mosaic_720x480": mosaic,
        "crop_rows0:300_cols100:400": a[0:300, 100:400],
        "blank_360x480": np.full((480, 360, 3), 90, np.uint8),
        "dark": a // 6,
    }


def everything() -> str:
    """A digest of every bit that the detector and the crops give for some pictures."""
    detector, all_of_it = MtcnnDetector(min_face_size=40), hashlib.sha256()
    for name in ("half", "mosaic_720x480", "blank_360x480", "dark"):
        picture = pictures()[name]
        detections = detector.detect(picture)
        all_of_it.update(repr(detections).encode())
        all_of_it.update(crop_face(picture, detections, square=200).crop.tobytes())
    return all_of_it.hexdigest()


@pytest.fixture(scope="module")
def detectors() -> dict[int, MtcnnDetector]:
    return {size: MtcnnDetector(min_face_size=size) for size in (20, 40, 60)}


@recorded
@pytest.mark.parametrize("name", pictures())
@pytest.mark.parametrize("size", [20, 40, 60])
def test_boxes_and_landmarks_are_those_of_facenet_pytorch(
    name: str, size: int, detectors: dict[int, MtcnnDetector]
) -> None:
    """The same faces in the same order, all within 0.02 pixel (measured: 0.006), and nothing in the blank picture."""
    expected = json.loads((ORACLE / "mtcnn_oracle.json").read_text())["min_face_size"][name][str(size)]
    detections = detectors[size].detect(pictures()[name])
    assert len(detections) == len(expected)
    for ours, theirs in zip(detections, expected, strict=True):
        assert np.allclose(ours.box, theirs["box"], rtol=0, atol=0.02)
        assert np.allclose(ours.landmarks, theirs["landmarks"], rtol=0, atol=0.02)
        assert abs(ours.score - theirs["prob"]) <= 0.0051


@recorded
@pytest.mark.parametrize("name", [name for name in pictures() if not name.startswith("blank")])
def test_crops_are_those_of_facenet_pytorch(name: str, detectors: dict[int, MtcnnDetector]) -> None:
    """Within half a grey level on average (the oracle's crops are of min_face_size 20); larger and smaller faces."""
    picture = pictures()[name]
    cut = crop_face(picture, detectors[20].detect(picture), square=100)
    assert cut.detected
    with np.load(ORACLE / "mtcnn_oracle_crops.npz") as crops:
        assert np.abs(cut.crop - crops[name]).mean() < 0.5


def test_result_is_pinned_to_the_last_bit() -> None:
    """Another processor, numpy or BLAS that gives another digest breaks the promise of byte-identical shards."""
    assert everything() == EVERYTHING


@pytest.mark.parametrize(
    "environment",
    [
        {"OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_NUM_THREADS": "2"},
        {"OPENBLAS_CORETYPE": "Prescott"},  # SSE3: other blocks, no fused multiply-add
        {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"},
    ],
    ids=lambda environment: " ".join(f"{key}={value}" for key, value in environment.items()),
)
def test_threads_and_instruction_set_do_not_change_a_bit(environment: dict[str, str]) -> None:
    """The same digest from a process whose BLAS and numpy run other code."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_faces as t; print(t.everything())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert run.stdout.split()[-1] == EVERYTHING


def test_no_sum_of_the_nets_is_rounded(detectors: dict[int, MtcnnDetector]) -> None:
    """Every layer's matrix product equals the one in 64-bit integers, on patches of a face and on black-white noise."""
    integral = IntegralImage(astronaut())
    boxes = np.array([[170, 50, 290, 190], [0, 0, 512, 512], [300, 300, 324, 350]])
    detector = detectors[40]
    for net, size in ((detector._pnet, 24), (detector._rnet, 24), (detector._onet, 48)):
        real = integral.patches(boxes, size)
        harsh = np.random.default_rng(0).integers(0, 2, real.shape) * MAX_INPUT
        x = np.concatenate([real, harsh], axis=-1)
        for layer in net.layers:
            scale = 2.0 ** next(b for b in range(40) if not np.any(layer.matrix * 2.0**b % 1))
            step = 2 if layer.paired else 1
            side = (layer.size, layer.size + step - 1)
            windows = np.lib.stride_tricks.sliding_window_view(x, side, axis=(1, 2))[:, :, ::step]
            columns = windows.transpose(4, 5, 0, 1, 2, 3).reshape(layer.matrix.shape[1] - 1, -1).astype(np.int64)
            matrix = (layer.matrix * scale).astype(np.int64)
            exact = matrix[:, :-1] @ columns + matrix[:, -1:]
            ours = layer._columns(x, step).reshape(exact.shape) * scale
            assert np.abs(exact).max() < 2**53
            assert np.array_equal(ours, exact.astype(np.float64))
            x = layer(x)


def test_a_patch_does_not_depend_on_its_batch(detectors: dict[int, MtcnnDetector]) -> None:
    """The heads of a patch are identical alone and in a batch."""
    integral = IntegralImage(astronaut())
    boxes = np.random.default_rng(1).integers(0, 200, (30, 4)) + np.array([0, 0, 210, 210])
    together = detectors[40]._rnet(integral.patches(boxes, 24))
    for i in range(len(boxes)):
        assert np.array_equal(detectors[40]._rnet(integral.patches(boxes[i : i + 1], 24))[..., 0], together[..., i])


def test_bound_refuses_weights_whose_sums_could_be_rounded() -> None:
    """One bit more than the nets are given, times the factor of 2 that is kept, does not pass."""
    with pytest.raises(AssertionError, match="exact range"):
        FixedPointNetwork(load_weights("pnet"), (2, 0, 0), (32, 27, 24, 21), heads=[9, 11])


def test_the_last_bit_of_exp_cannot_change_a_score() -> None:
    """No multiple of 2**-33 is so close to a logit where the second decimal changes that an error of `exp` matters."""
    for k in range(100):
        p = (k + 0.5) / 100
        logit = Fraction(math.log(p / (1 - p))) * 2**33
        distance = float(abs(logit - round(logit)) / 2**33) * p * (1 - p)  # in probability
        assert distance > 1e-14  # `exp`, the division and this logarithm together are off by less than 1e-15


@pytest.mark.parametrize(("height", "width", "every"), [(720, 1280, 2), (1080, 1920, 2), (2160, 3840, 4)])
def test_large_images_are_subsampled(height: int, width: int, every: int, detectors: dict[int, MtcnnDetector]) -> None:
    """The boxes and landmarks are those of every second or fourth pixel, in pixels of the whole picture."""
    picture = np.full((height, width, 3), 60, np.uint8)
    picture[100:612, 500:1012] = astronaut()
    thin, whole = detectors[40].detect(picture[::every, ::every]), detectors[40].detect(picture)
    assert [tuple(every * edge for edge in face.box) for face in thin] == [face.box for face in whole]
    assert [[(every * x, every * y) for x, y in f.landmarks] for f in thin] == [[*f.landmarks] for f in whole]
    assert len(whole) == 1


@pytest.mark.parametrize("shape", [(480, 360), (480, 720), (576, 720), (540, 960)])
def test_every_pixel_of_smaller_images_is_searched(shape: tuple[int, int], detectors: dict[int, MtcnnDetector]) -> None:
    """A face that can be seen in the odd rows and columns alone is found."""
    picture = np.zeros((*shape, 3), np.uint8)
    picture[101:357:2, 101:357:2] = astronaut()[::4, ::4]
    picture[102:358:2, 101:357:2] = picture[101:357:2, 101:357:2]
    picture[101:357, 102:358:2] = picture[101:357, 101:357:2]
    assert len(detectors[40].detect(picture)) == 1


@pytest.mark.parametrize("shape", [(1080, 1920), (1920, 1080), (480, 640), (37, 41)])
def test_colour_channels_are_resized_separately(shape: tuple[int, int]) -> None:
    """White, and the largest rectangles that are asked for: every mean is 255 at every size."""
    integral = IntegralImage(np.full((*shape, 3), 255, np.uint8))
    coarsest = 12 / min(shape)
    level = integral.resized(int(shape[0] * coarsest + 1), int(shape[1] * coarsest + 1))
    assert np.array_equal(level, np.full_like(level, MAX_INPUT))
    whole = integral.patches(np.array([[0, 0, shape[1], shape[0]]]), 24)
    assert np.array_equal(whole, np.full_like(whole, MAX_INPUT))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_patches_are_means_of_their_rectangles(data: st.DataObject) -> None:
    """Against the plain mean of the pixels, colour by colour."""
    picture = data.draw(hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
    height, width = picture.shape[:2]
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    size = data.draw(st.integers(1, 30))
    patch = IntegralImage(picture).patches(np.array([[left, top, right, bottom]]), size)[..., 0]
    for i, (y0, y1) in enumerate(zip(*(e[:, 0] for e in bin_edges(size, np.array([bottom - top]))), strict=True)):
        for j, (x0, x1) in enumerate(zip(*(e[:, 0] for e in bin_edges(size, np.array([right - left]))), strict=True)):
            part = picture[top + y0 : top + y1, left + x0 : left + x1].reshape(-1, 3)
            assert np.array_equal(patch[:, i, j], np.rint(part.sum(axis=0) * 512 / len(part)))


def test_prelu_is_its_definition() -> None:
    """Slopes below 0, between 0 and 1, and above 1."""
    y = np.random.default_rng(0).normal(size=(5, 4, 4, 3))
    slope = np.array([-0.5, 0.0, 0.25, 1.0, 1.3])
    expected = np.where(y > 0, y, slope[:, None, None, None] * y)
    prelu(y, slope)
    assert np.array_equal(y, expected)


@given(
    x=hnp.arrays(np.float64, st.tuples(*[st.integers(3, 9)] * 2), elements=st.integers(-9, 9)), size=st.integers(2, 3)
)
def test_pooling_keeps_the_rest_of_a_line(x: NDArray[np.float64], size: int) -> None:
    """Windows at every second place, the last one cut at the edge (torch's ceil_mode)."""
    count = -(-(x.shape[1] - size) // 2) + 1
    expected = [[max(line[2 * i : 2 * i + size]) for i in range(count)] for line in x.tolist()]
    assert max_pool(x, 1, size).tolist() == expected


def test_nms_keeps_the_best_of_overlapping_boxes() -> None:
    """By hand: b overlaps a by 2/3 of their union, c is apart, d is inside a."""
    boxes = np.array([[0, 0, 10, 10], [0, 2, 10, 12], [20, 20, 30, 30], [4, 4, 6, 6]], np.float64)
    score = np.array([0.9, 0.95, 0.1, 0.8])
    assert nms(boxes, score, 0.5).tolist() == [1, 3, 2]
    assert nms(boxes, score, 0.7).tolist() == [1, 0, 3, 2]
    assert nms(boxes, score, 0.7, by_smaller=True).tolist() == [1, 2]


def test_nms_in_blocks_equals_nms_one_by_one() -> None:
    """More boxes than one block, against the loop that the definition gives."""
    random = np.random.default_rng(3)
    corner = random.integers(0, 200, (700, 2))
    boxes = np.concatenate([corner, corner + random.integers(5, 60, (700, 2))], axis=1).astype(np.float64)
    score = random.integers(0, 50, 700).astype(np.float64)

    def overlap(a: Any, b: Any) -> float:
        common = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)

    kept: list[int] = []
    for i in sorted(range(700), key=lambda i: (-score[i], i)):
        if all(overlap(boxes[i], boxes[j]) <= 0.5 for j in kept):
            kept.append(i)
    assert nms(boxes, score, 0.5).tolist() == kept


@pytest.mark.parametrize("shape", [(1, 1), (11, 200), (200, 11), (12, 12), (40, 40), (41, 53)])
def test_images_of_any_size_are_accepted(shape: tuple[int, int], detectors: dict[int, MtcnnDetector]) -> None:
    """Too small for a face or not: an answer, and none in noise of that size."""
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert detectors[20].detect(noise) == []


def test_detect_refuses_arrays_that_are_not_uint8_images(detectors: dict[int, MtcnnDetector]) -> None:
    """Grey pictures and floats are refused."""
    with pytest.raises(ValueError, match="uint8"):
        detectors[40].detect(np.zeros((100, 100), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        detectors[40].detect(np.zeros((100, 100, 3)))  # type: ignore[arg-type]


def test_digest_names_the_settings(detectors: dict[int, MtcnnDetector]) -> None:
    """Two detectors with the same settings have the same digest, others another."""
    assert MtcnnDetector(min_face_size=20).digest == detectors[20].digest
    assert len({detector.digest for detector in detectors.values()}) == 3


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    """One flipped bit, and nothing of the file is decompressed or read."""
    packed = bytearray((weights_folder() / "pnet.lz4").read_bytes())
    packed[1000] ^= 1
    (tmp_path / "pnet.lz4").write_bytes(packed)
    with pytest.raises(MesmError, match=rf"sha256 \w+, expected {WEIGHTS_SHA256['pnet']}"):
        load_weights("pnet", tmp_path)
    with pytest.raises(MesmError, match=r"rnet\.lz4 is missing"):
        load_weights("rnet", tmp_path)


def test_a_missing_package_is_named_with_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is installed."""
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MesmError, match=r"pip install 'mtcnn>=1.0,<2'"):
        weights_folder()


class Harmful:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def test_pickle_that_runs_a_command_is_refused(tmp_path: Path) -> None:
    """`os.system` is never looked up, let alone called."""
    with pytest.raises(pickle.UnpicklingError, match=r"weights may not name \w+.system"):
        read_arrays(pickle.dumps([Harmful(tmp_path / "ran")]))
    assert not (tmp_path / "ran").exists()


def slow_resize(picture: NDArray[np.uint8], size: int) -> list[Any]:
    """Every new pixel as the exact mean of what it covers, in fractions, halves up."""

    def shares(length: int, i: int) -> dict[int, Fraction]:
        start, end = Fraction(i * length, size), Fraction((i + 1) * length, size)
        covered = {p: min(end, Fraction(p + 1)) - max(start, Fraction(p)) for p in range(length)}
        return {p: share / (end - start) for p, share in covered.items() if share > 0}

    def mean(i: int, j: int, colour: int) -> int:
        rows, columns = shares(picture.shape[0], i), shares(picture.shape[1], j)
        total = sum(a * b * int(picture[y, x, colour]) for y, a in rows.items() for x, b in columns.items())
        return math.floor(total + Fraction(1, 2))

    return [[[mean(i, j, colour) for colour in range(3)] for j in range(size)] for i in range(size)]


@settings(max_examples=60, deadline=None)
@given(
    picture=hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))), size=st.integers(1, 9)
)
def test_resize_is_the_exact_area_mean(picture: NDArray[np.uint8], size: int) -> None:
    """Shrinking, enlarging, and one of each."""
    assert resize(picture, size).tolist() == slow_resize(picture, size)


def test_resize_to_its_own_size_is_the_picture() -> None:
    picture = astronaut()[:64, :64]
    assert np.array_equal(resize(picture, 64), picture)


def test_without_a_face_the_centre_square_is_cropped() -> None:
    """IEMOCAP's half of a frame, 360 wide and 480 high: rows 128..351, columns 68..291."""
    picture = np.random.default_rng(0).integers(0, 256, (480, 360, 3), dtype=np.uint8)
    cut = crop_face(picture, [], square=224)
    assert (cut.box, cut.score, cut.detected) == ((68, 128, 292, 352), 0.0, False)
    assert np.array_equal(cut.crop, resize(picture[128:352, 68:292], 48))


def test_the_centre_square_is_cut_to_a_small_picture() -> None:
    assert crop_face(np.zeros((100, 150, 3), np.uint8), [], square=224).box == (25, 0, 125, 100)


def at(*box: float) -> Detection:
    left, top, right, bottom = box
    return Detection(box=(left, top, right, bottom), score=0.97, landmarks=())


def test_the_margin_is_facenet_pytorchs() -> None:
    """2 of 48 pixels are margin; boxes are cut to integers, and to the picture.

    A box 92 wide and 46 high grows by 92/46/2 = 2 and 46/46/2 = 1 on each side.
    """
    picture = np.zeros((200, 300, 3), np.uint8)
    cut = crop_face(picture, [at(50.5, 60.5, 142.5, 106.5), at(0, 0, 9, 9)], square=100)
    assert (cut.box, cut.score, cut.detected) == ((48, 59, 144, 107), 0.97, True)
    assert crop_face(picture, [at(-20, -20, 400, 300)], square=100).box == (0, 0, 300, 200)


def test_a_box_outside_the_image_is_not_a_face() -> None:
    """Then the next detection is taken, or the centre."""
    picture = np.zeros((200, 300, 3), np.uint8)
    outside = at(320, 10, 400, 90)
    assert crop_face(picture, [outside, at(10, 10, 56, 56)], square=100).box == (9, 9, 57, 57)
    assert not crop_face(picture, [outside], square=100).detected


def test_faces_are_counted_and_the_largest_is_cropped() -> None:
    """Of those that have a pixel inside the picture."""
    picture = np.zeros((200, 300, 3), np.uint8)
    largest, small, outside = at(10, 10, 56, 56), at(100, 100, 130, 130), at(320, 10, 400, 90)
    alone, both = (crop_face(picture, detections, square=100) for detections in ([largest], [outside, largest, small]))
    assert (alone.count, both.count, both.box) == (1, 2, alone.box)
    assert crop_face(picture, [outside], square=100).count == 0

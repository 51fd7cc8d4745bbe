"""Face detection with MTCNN, with identical results on every machine.

Zhang, Zhang, Li, Qiao: Joint Face Detection and Alignment using Multitask Cascaded Convolutional Networks, IEEE Signal
Processing Letters 23(10), 2016.

A cascade of three networks. P-net slides over an image pyramid and proposes boxes, R-net examines each of them at 24x24
pixels, O-net at 48x48; each drops most boxes and moves the others. Thresholds, pyramid and non-maximum suppression are
those of facenet-pytorch 2.6, and boxes agree with it within 0.01 pixel; the arithmetic is exact (see `fixed_point`).
"""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from mesm_data.media.faces.boxes import apply_regression, clip_to_image, nms, to_square
from mesm_data.media.faces.detector import MAX_LONG_SIDE, MAX_SHORT_SIDE, Detection, check_image, sampling_step
from mesm_data.media.faces.fixed_point import ACTIVATION_BITS, Array, FixedPointNetwork
from mesm_data.media.faces.integral_image import IntegralImage
from mesm_data.media.faces.weights import WEIGHTS_SHA256, load_weights

# Thresholds of probabilities, as logits log(p / (1 - p)); constants, since `log` differs between machines.
LOGIT_60 = 0.4054651081081644  # P-net: 0.6
LOGIT_70 = 0.8472978603872036  # R-net and O-net: 0.7
PYRAMID_FACTOR = 0.709  # scale from one level of the pyramid to the next: half of the area
PNET_SIZE, STRIDE = 12, 2  # the receptive field of P-net's output, and its stride
BATCH = 24  # patches per call of a network: limits the memory, does not change the result
METHOD = "mtcnn fixed point 2"  # counted up with each change that can move a box


class MtcnnDetector:
    """The three networks, loaded once. `detect` is thread-safe.

    If several processes share a machine, set OPENBLAS_NUM_THREADS=1 before they start: the matrices are small, and more
    threads cost more CPU than they save time. The result does not depend on it.

    Args:
        min_face_size: The side of the smallest face to detect in pixels, at least 12 (P-net's receptive field).

    Raises:
        MesmError: The weights are missing, or differ from the expected ones.
    """

    model: str | None = None
    library: str | None = None

    def __init__(self, *, min_face_size: int = 40) -> None:
        if min_face_size < PNET_SIZE:
            raise ValueError(f"min_face_size is {min_face_size}, expected at least {PNET_SIZE} pixels")
        self.min_face_size = min_face_size
        self._pnet = FixedPointNetwork(load_weights("pnet"), (2, 0, 0), (30, 27, 24, 21), heads=[9, 11])
        self._rnet = FixedPointNetwork(load_weights("rnet"), (3, 3, 0, 0), (32, 29, 27, 23, 19), heads=[12, 14])
        bits = (31, 29, 27, 24, 21, 17)
        self._onet = FixedPointNetwork(load_weights("onet"), (3, 3, 2, 0, 0), bits, heads=[15, 17, 19])

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over the weights and all settings: the same digest gives identical boxes."""
        thresholds = (PYRAMID_FACTOR, LOGIT_60, LOGIT_70, MAX_LONG_SIDE, MAX_SHORT_SIDE, ACTIVATION_BITS)
        settings = (METHOD, self.min_face_size, *thresholds)
        return hashlib.sha256(repr((*settings, sorted(WEIGHTS_SHA256.items()))).encode()).hexdigest()[:16]

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Detect the faces in an image (height, width, 3) RGB, largest box first.

        Of an image larger than 960x576 only every second (third, ...) row and column is read, so the smallest face is
        larger by the same factor: 80 pixels instead of 40 for 720 or 1080 lines. That takes a third of the time
        (docs/benchmarks.md). Means of 2x2 pixels gave no better boxes, and took as long as the detection.
        """
        check_image(image)
        step = sampling_step(*image.shape[:2])
        integral = IntegralImage(image[::step, ::step])
        boxes, heads = self._run_onet(integral, self._run_rnet(integral, self._run_pnet(integral)))
        boxes *= step
        heads[4:14] *= step
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return [_detection(boxes[i], heads[:, i]) for i in np.argsort(-area, kind="stable")]

    def _run_pnet(self, integral: IntegralImage) -> Array:
        """Run P-net over the image pyramid: squares (n, 4), best first."""
        scale = PNET_SIZE / self.min_face_size
        boxes, heads = [np.empty((0, 4))], [np.empty((5, 0))]
        while min(integral.height, integral.width) * scale >= PNET_SIZE:
            level_input = integral.resized(int(integral.height * scale + 1), int(integral.width * scale + 1))
            out = self._pnet(level_input)[..., 0]
            y, x = np.nonzero(out[4] >= LOGIT_60)
            corners = np.stack([x, y, x, y], axis=1) * STRIDE + (1, 1, PNET_SIZE, PNET_SIZE)
            # Divided in float32, as facenet-pytorch does: in float64 some corners fall on the next pixel, other boxes
            # survive, and the final box moves by up to 1.8 pixels.
            level = np.floor(corners.astype(np.float32) / np.float32(scale)).astype(np.float64)
            kept = nms(level, out[4, y, x], 0.5)
            boxes.append(level[kept])
            heads.append(out[:, y[kept], x[kept]])
            scale *= PYRAMID_FACTOR
        proposals, head = np.concatenate(boxes), np.concatenate(heads, axis=1)
        kept = nms(proposals, head[4], 0.7)
        return to_square(apply_regression(proposals[kept], head[:, kept], extra=0.0))

    def _run_rnet(self, integral: IntegralImage, boxes: Array) -> Array:
        """Run R-net on squares: fewer and better squares (n, 4), best first."""
        boxes, out = _classify(self._rnet, integral, boxes, 24)
        kept = nms(boxes, out[4], 0.7)
        return to_square(apply_regression(boxes[kept], out[:, kept]))

    def _run_onet(self, integral: IntegralImage, boxes: Array) -> tuple[Array, Array]:
        """Run O-net on squares: boxes (n, 4) and the heads (15, n), with the landmarks in pixels."""
        boxes, out = _classify(self._onet, integral, boxes, 48)
        left, top, right, bottom = boxes.T
        out[4:9] = out[4:9] * (right - left + 1) + left - 1
        out[9:14] = out[9:14] * (bottom - top + 1) + top - 1
        boxes = apply_regression(boxes, out)
        kept = nms(boxes, out[14], 0.7, by_smaller=True)
        return boxes[kept], out[:, kept]


def _classify(net: FixedPointNetwork, integral: IntegralImage, boxes: Array, size: int) -> tuple[Array, Array]:
    """Run a network on boxes. Returns the boxes that it classifies as faces, and its heads (m, n) for them."""
    pixels = clip_to_image(boxes, integral.height, integral.width)
    is_visible = np.all(pixels[:, 2:] > pixels[:, :2], axis=1)
    boxes, pixels = boxes[is_visible], pixels[is_visible]
    parts = [net(integral.patches(pixels[i : i + BATCH], size))[:, 0, 0] for i in range(0, len(pixels), BATCH)]
    out = np.concatenate([np.empty((net.out, 0)), *parts], axis=1)
    is_face = out[-1] > LOGIT_70
    return boxes[is_face], out[:, is_face]


def _detection(box: Array, head: Array) -> Detection:
    left, top, right, bottom = box.tolist()
    points = tuple(zip(head[4:9].tolist(), head[9:14].tolist(), strict=True))
    # `exp` is the only function here whose last bit differs between machines. That cannot change the second decimal:
    # logits are multiples of 2**-33, and none of these lies so close to where the decimal changes.
    probability = 1 / (1 + math.exp(-head[14]))
    return Detection(box=(left, top, right, bottom), score=math.floor(100 * probability + 0.5) / 100, landmarks=points)

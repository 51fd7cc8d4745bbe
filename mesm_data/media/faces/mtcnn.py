"""Finding faces with MTCNN (Zhang, Zhang, Li, Qiao: Joint Face Detection and Alignment using Multitask Cascaded
Convolutional Networks, IEEE Signal Processing Letters 23(10), 2016), the same answer on every machine.

Three nets in a row. P slides over a pyramid of the picture and proposes boxes, R looks at each of them at 24x24
pixels, O at 48x48; each throws most away and moves the others. Thresholds, pyramid and the treatment of overlaps are
those of facenet-pytorch 2.6, and boxes agree with it within 0.01 pixel; the arithmetic is our own (`network`: fixed
point, exact).
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

# A probability p is compared through its logit log(p / (1 - p)): written out, since `log` is not the same everywhere.
LOGIT_60 = 0.4054651081081644  # P-net
LOGIT_70 = 0.8472978603872036  # R-net and O-net
PYRAMID_FACTOR = 0.709  # from one level of the pyramid to the next: half of the area
PNET_SIZE, STRIDE = 12, 2  # what P-net sees at one place of its output, and the step between places
BATCH = 24  # patches that go through a net together: bounds the memory, has no influence on the result
METHOD = "mtcnn fixed point 2"  # counted up with any change that can move a box


class MtcnnDetector:
    """The three nets, loaded once. `detect` may be called from many threads.

    Where several processes share a machine, set OPENBLAS_NUM_THREADS=1 before they start: the matrices are small,
    and more threads cost more CPU than they save time. The result does not depend on it.
    """

    model: str | None = None
    library: str | None = None

    def __init__(self, *, min_face_size: int = 40) -> None:
        """
        Args:
            min_face_size: side of the smallest face that is looked for, in pixels, at least 12 (what P-net sees).

        Raises:
            MesmError: the weights are missing or not those that are expected.
        """
        if min_face_size < PNET_SIZE:
            raise ValueError(f"min_face_size is {min_face_size}, expected at least {PNET_SIZE} pixels")
        self.min_face_size = min_face_size
        self._propose = FixedPointNetwork(load_weights("pnet"), (2, 0, 0), (30, 27, 24, 21), heads=[9, 11])
        self._refine = FixedPointNetwork(load_weights("rnet"), (3, 3, 0, 0), (32, 29, 27, 23, 19), heads=[12, 14])
        self._output = FixedPointNetwork(
            load_weights("onet"), (3, 3, 2, 0, 0), (31, 29, 27, 24, 21, 17), heads=[15, 17, 19]
        )

    @property
    def digest(self) -> str:
        """16 hexadecimal digits for the weights and all settings: with the same digest a picture has the same boxes."""
        settings = (
            METHOD,
            self.min_face_size,
            PYRAMID_FACTOR,
            LOGIT_60,
            LOGIT_70,
            MAX_LONG_SIDE,
            MAX_SHORT_SIDE,
            ACTIVATION_BITS,
        )
        return hashlib.sha256(repr((*settings, sorted(WEIGHTS_SHA256.items()))).encode()).hexdigest()[:16]

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """The faces in a picture (height, width, 3) RGB, largest box first.

        Of a picture larger than 960x576 every second (third, ...) row and column is looked at, and its smallest face
        is as much larger: 80 pixels instead of 40 of 720 or 1080 lines. That takes a third of the
        time (docs/benchmarks.md). Means of 2x2 pixels gave no better boxes, and took as long as the detection.
        """
        check_image(picture)
        every = sampling_step(*picture.shape[:2])
        sums = IntegralImage(picture[::every, ::every])
        boxes, heads = self._final(sums, self._second(sums, self._first(sums)))
        boxes *= every
        heads[4:14] *= every
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return [_detection(boxes[i], heads[:, i]) for i in np.argsort(-area, kind="stable")]

    def _first(self, sums: IntegralImage) -> Array:
        """P-net over the pyramid: squares (n, 4), best first."""
        scale = PNET_SIZE / self.min_face_size
        boxes, heads = [np.empty((0, 4))], [np.empty((5, 0))]
        while min(sums.height, sums.width) * scale >= PNET_SIZE:
            out = self._propose(sums.shrunk(int(sums.height * scale + 1), int(sums.width * scale + 1)))[..., 0]
            y, x = np.nonzero(out[4] >= LOGIT_60)
            corners = np.stack([x, y, x, y], axis=1) * STRIDE + (1, 1, PNET_SIZE, PNET_SIZE)
            # Divided in float32 as facenet-pytorch does: in float64 some corners fall on the pixel beside,
            # other boxes survive, and the final box moves by up to 1.8 pixels.
            level = np.floor(corners.astype(np.float32) / np.float32(scale)).astype(np.float64)
            kept = nms(level, out[4, y, x], 0.5)
            boxes.append(level[kept])
            heads.append(out[:, y[kept], x[kept]])
            scale *= PYRAMID_FACTOR
        every, head = np.concatenate(boxes), np.concatenate(heads, axis=1)
        kept = nms(every, head[4], 0.7)
        return to_square(apply_regression(every[kept], head[:, kept], extra=0.0))

    def _second(self, sums: IntegralImage, boxes: Array) -> Array:
        """R-net: fewer and better squares (n, 4), best first."""
        boxes, out = _look(self._refine, sums, boxes, 24)
        kept = nms(boxes, out[4], 0.7)
        return to_square(apply_regression(boxes[kept], out[:, kept]))

    def _final(self, sums: IntegralImage, boxes: Array) -> tuple[Array, Array]:
        """O-net: boxes (n, 4) and its heads (15, n), where the landmarks have become pixels."""
        boxes, out = _look(self._output, sums, boxes, 48)
        left, top, right, bottom = boxes.T
        out[4:9] = out[4:9] * (right - left + 1) + left - 1
        out[9:14] = out[9:14] * (bottom - top + 1) + top - 1
        boxes = apply_regression(boxes, out)
        kept = nms(boxes, out[14], 0.7, smaller=True)
        return boxes[kept], out[:, kept]


def _look(net: FixedPointNetwork, sums: IntegralImage, boxes: Array, size: int) -> tuple[Array, Array]:
    """The boxes that a net takes for faces, and its heads (m, n) for them."""
    pixels = clip_to_image(boxes, sums.height, sums.width)
    some = np.all(pixels[:, 2:] > pixels[:, :2], axis=1)
    boxes, pixels = boxes[some], pixels[some]
    parts = [net(sums.patches(pixels[i : i + BATCH], size))[:, 0, 0] for i in range(0, len(pixels), BATCH)]
    out = np.concatenate([np.empty((net.out, 0)), *parts], axis=1)
    faces = out[-1] > LOGIT_70
    return boxes[faces], out[:, faces]


def _detection(box: Array, head: Array) -> Detection:
    left, top, right, bottom = box.tolist()
    points = tuple(zip(head[4:9].tolist(), head[9:14].tolist(), strict=True))
    # `exp` is the one function here that machines disagree about, in the last bit. It cannot change the second decimal:
    # logits are multiples of 2**-33, and none of those lies so close to where the decimal changes.
    probability = 1 / (1 + math.exp(-head[14]))
    return Detection(box=(left, top, right, bottom), score=math.floor(100 * probability + 0.5) / 100, landmarks=points)

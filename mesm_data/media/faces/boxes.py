"""Operations on the boxes of the face cascade: arrays (n, 4) of left, top, right, bottom in pixels.

Each step is one addition, multiplication or comparison of float64, in an order that numpy cannot change: the results
are identical on every machine. Whether a length is `right - left` or one more differs between the steps, because the
weights were trained that way.
"""

import numpy as np
from numpy.typing import NDArray

from mesm_data.media.faces.fixed_point import Array

BLOCK = 256  # boxes that are compared with all others at a time: limits the memory


def nms(boxes: Array, scores: Array, max_overlap: float, *, by_smaller: bool = False) -> NDArray[np.int64]:
    """Non-maximum suppression: of two boxes that overlap too much, drop the one with the lower score.

    Of equal scores the earlier box is kept.

    Args:
        boxes: (n, 4).
        scores: (n,).
        max_overlap: The largest overlap of two boxes that are both kept.
        by_smaller: Whether overlap is the intersection over the smaller box (with lengths of one more), instead of the
            intersection over the union.

    Returns:
        The indices of the boxes that are kept, best first.
    """
    left, top, right, bottom = boxes.T
    extra = 1.0 if by_smaller else 0.0
    area = (right - left + extra) * (bottom - top + extra)
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        head = order[:BLOCK, None]
        width = np.minimum(right[head], right[order]) - np.maximum(left[head], left[order]) + extra
        height = np.minimum(bottom[head], bottom[order]) - np.maximum(top[head], top[order]) + extra
        intersection = np.maximum(width, 0) * np.maximum(height, 0)
        smaller, total = np.minimum(area[head], area[order]), area[head] + area[order]
        apart = intersection <= max_overlap * (smaller if by_smaller else total - intersection)
        alive = np.ones(order.size, np.bool_)
        for i in range(len(head)):
            if alive[i]:
                kept.append(int(order[i]))
                alive &= apart[i]
        order = order[BLOCK:][alive[BLOCK:]]
    return np.array(kept, np.int64)


def apply_regression(boxes: Array, offsets: Array, *, extra: float = 1.0) -> Array:
    """Move the edges of boxes by `offsets` (4, n), in units of the side of the box (right - left + `extra`)."""
    left, top, right, bottom = boxes.T
    width, height = right - left + extra, bottom - top + extra
    edges = [left + offsets[0] * width, top + offsets[1] * height]
    edges += [right + offsets[2] * width, bottom + offsets[3] * height]
    return np.stack(edges, axis=1)


def to_square(boxes: Array) -> Array:
    """The squares with the same centres whose side is the longer side of each box."""
    left, top, right, bottom = boxes.T
    width, height = right - left, bottom - top
    side = np.maximum(width, height)
    x = left + width * 0.5 - side * 0.5
    y = top + height * 0.5 - side * 0.5
    return np.stack([x, y, x + side, y + side], axis=1)


def clip_to_image(boxes: Array, height: int, width: int) -> NDArray[np.int64]:
    """The pixels of each box inside the image, (n, 4), right and bottom not included; boxes may be empty.

    Edges are truncated to integers and counted from 1, as in the authors' MATLAB: a box from 5.0 begins at pixel 4.
    """
    whole = np.trunc(np.clip(boxes, -1.0, 1e6)).astype(np.int64)
    first = np.maximum(whole[:, :2], 1) - 1
    return np.concatenate([first, np.minimum(whole[:, 2:], (width, height))], axis=1)

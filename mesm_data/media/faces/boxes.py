"""Boxes of the face cascade: arrays (n, 4) of left, top, right, bottom in pixels.

Every step is one addition, multiplication or comparison of float64, in an order that numpy cannot change: the same
bits everywhere. What is a length (`right - left` or one more) differs from step to step; the weights were trained so.
"""

import numpy as np
from numpy.typing import NDArray

from mesm_data.media.faces.fixed_point import Array

BLOCK = 256  # boxes that are compared with all others at once: bounds the memory


def nms(boxes: Array, score: Array, most: float, *, smaller: bool = False) -> NDArray[np.int64]:
    """Which boxes stay, best first: of two that overlap by more than `most`, the one with the lower score goes.

    The overlap is the intersection as a share of the union, or of the smaller box (lengths are one more there).
    Of equal scores the earlier box goes before.
    """
    left, top, right, bottom = boxes.T
    extra = 1.0 if smaller else 0.0
    area = (right - left + extra) * (bottom - top + extra)
    order = np.argsort(-score, kind="stable")
    kept: list[int] = []
    while order.size:
        head = order[:BLOCK, None]
        width = np.minimum(right[head], right[order]) - np.maximum(left[head], left[order]) + extra
        height = np.minimum(bottom[head], bottom[order]) - np.maximum(top[head], top[order]) + extra
        common = np.maximum(width, 0) * np.maximum(height, 0)
        whole = np.minimum(area[head], area[order]) if smaller else area[head] + area[order] - common
        apart = common <= most * whole
        alive = np.ones(order.size, np.bool_)
        for i in range(len(head)):
            if alive[i]:
                kept.append(int(order[i]))
                alive &= apart[i]
        order = order[BLOCK:][alive[BLOCK:]]
    return np.array(kept, np.int64)


def apply_regression(boxes: Array, by: Array, *, extra: float = 1.0) -> Array:
    """Boxes with their edges moved by `by` (4, n), in lengths of the box (`extra` more than right - left)."""
    left, top, right, bottom = boxes.T
    width, height = right - left + extra, bottom - top + extra
    moved = (left + by[0] * width, top + by[1] * height, right + by[2] * width, bottom + by[3] * height)
    return np.stack(moved, axis=1)


def to_square(boxes: Array) -> Array:
    """The squares around the same centres with the longer side of each box."""
    left, top, right, bottom = boxes.T
    width, height = right - left, bottom - top
    side = np.maximum(width, height)
    x = left + width * 0.5 - side * 0.5
    y = top + height * 0.5 - side * 0.5
    return np.stack([x, y, x + side, y + side], axis=1)


def clip_to_image(boxes: Array, height: int, width: int) -> NDArray[np.int64]:
    """The pixels of each box that lie in the picture, right and bottom not included; empty boxes may be among them.

    Edges are cut to integers and counted from 1, as in the authors' MATLAB: a box from 5.0 begins at pixel 4.
    """
    whole = np.trunc(np.clip(boxes, -1.0, 1e6)).astype(np.int64)
    first = np.maximum(whole[:, :2], 1) - 1
    return np.concatenate([first, np.minimum(whole[:, 2:], (width, height))], axis=1)

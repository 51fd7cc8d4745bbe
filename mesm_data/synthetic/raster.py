"""A renderer: quads of one colour each, shaded and filled from back to front. No z-buffer, no textures."""

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SHIFT = 4  # fractional bits of fillConvexPoly's coordinates: 1/16 pixel
EYE_LINE = 110  # row of the eyes
SCALE = 54.0  # pixels per decimetre at the eyes: a face of 18 cm (chin to hairline) is about 97 pixels high
CAMERA = 12.0  # decimetres from the eyes
AMBIENT, DIFFUSE, WRAP = 0.42, 0.66, 0.3  # soft shading of skin: wrapped Lambert


def normals(points: Floats, quads: NDArray[np.int32], fan: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Floats:
    """Return unit normals (n, 3) of the vertices; quads are counter-clockwise from outside. `fan`: see Template."""
    p, r = points[quads[:, 2]] - points[quads[:, 0]], points[quads[:, 3]] - points[quads[:, 1]]
    flat = p[:, [1, 2, 0]] * r[:, [2, 0, 1]] - p[:, [2, 0, 1]] * r[:, [1, 2, 0]]
    return unit(np.add.reduceat(flat[fan[0]], fan[1]))


def unit(vectors: Floats) -> Floats:
    """Scale vectors (..., 3) to length 1; zero stays zero."""
    length = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    return np.asarray(vectors / np.maximum(length, np.float32(1e-9)), np.float32)


def shade(albedo: Floats, normal: Floats, gloss: Floats, light: Floats) -> NDArray[np.uint8]:
    """Return shaded colours (q, 3) RGB of quads.

    albedo (q, 3) in 0..1; gloss (q,) share of a Blinn highlight; light (3,) unit vector towards the lamp.
    """
    half = unit(light + np.array([0, 0, 1], np.float32))
    lambert = np.clip(((normal * light).sum(axis=1) + WRAP) / (1 + WRAP), 0, 1)
    highlight = gloss * np.clip((normal * half).sum(axis=1), 0, 1) ** 24
    colour = albedo * (AMBIENT + DIFFUSE * lambert)[:, None] + highlight[:, None]
    return np.asarray(np.clip(np.rint(colour * 255), 0, 255), np.uint8)


def project(points: Floats, width: int) -> Floats:
    """Project points (n, 3), with the origin between the eyes, to pixels (n, 2) of a camera in front."""
    scale = SCALE * CAMERA / (CAMERA - points[:, 2:])
    return np.concatenate([width / 2 + points[:, :1] * scale, EYE_LINE - points[:, 1:2] * scale], axis=1)


def paint(
    points: Floats,
    quads: NDArray[np.int32],
    colours: NDArray[np.uint8],
    two_sided: NDArray[np.bool_],
    size: tuple[int, int],
    dots: Floats,
) -> NDArray[np.uint8]:
    """Paint quads on a transparent picture.

    points (n, 3); quads (q, 4); colours (q, 3); two_sided (q,) quads that also show their back; size (height, width);
    dots (d, 3) points that small light discs mark. Returns (height, width, 4): RGB times coverage, and coverage.
    """
    height, width = size
    flat = project(points, width)[quads]  # (q, 4, 2)
    p, r = flat[:, 2] - flat[:, 0], flat[:, 3] - flat[:, 1]
    facing = np.flatnonzero(two_sided | (p[:, 0] * r[:, 1] - p[:, 1] * r[:, 0] < 0))
    order = facing[np.argsort(points[quads[facing], 2].sum(axis=1), kind="stable")]
    # Painted at twice the size and averaged: smooth edges for a third of the cost of anti-aliased filling.
    corners = np.rint(flat[order] * (2 << SHIFT)).astype(np.int32)
    canvas = np.zeros((2 * height, 2 * width, 4), np.uint8)
    opaque = np.pad(colours[order], ((0, 0), (0, 1)), constant_values=255).tolist()
    for polygon, colour in zip(list(corners), opaque, strict=True):
        cv2.fillConvexPoly(canvas, polygon, colour, cv2.LINE_8, SHIFT)
    for x, y in np.rint(project(dots, width) * (2 << SHIFT)).astype(int).tolist():
        cv2.circle(canvas, (x, y), 2 << SHIFT, (236, 236, 228, 255), -1, cv2.LINE_AA, SHIFT)
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), np.uint8)

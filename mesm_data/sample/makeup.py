"""What a head is painted with: skin, lips, brows, hair, beard shadow, clothes. One colour per quad."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mesm_data.sample.assets import assets_folder
from mesm_data.sample.head import PARTS, Floats, Template, cavity

LIPS = "mpfb2/textures/mpfb_lips.jpg"

# sRGB in 0..1. Skin of MakeHuman's three races (african, asian, caucasian), which an identity mixes.
SKIN = np.array([(0.44, 0.29, 0.21), (0.86, 0.66, 0.51), (0.90, 0.71, 0.61)], np.float32)
HAIR = np.array(
    [
        (0.07, 0.06, 0.06),
        (0.16, 0.10, 0.07),
        (0.30, 0.19, 0.11),
        (0.40, 0.20, 0.11),
        (0.66, 0.51, 0.30),
        (0.55, 0.53, 0.51),
    ],
    np.float32,
)
DARK_HAIR, ANY_HAIR = (0.7, 0.25, 0.05, 0, 0, 0), (0.1, 0.25, 0.25, 0.1, 0.2, 0.1)
IRIS = np.array([(0.22, 0.13, 0.08), (0.33, 0.22, 0.11), (0.30, 0.38, 0.30), (0.32, 0.45, 0.58)], np.float32)

# Heights (y) of the hairline and of the brow in the base mesh, by depth (z) and by distance from the middle (|x|).
HAIRLINE = ([-0.3, 0.1, 0.4, 0.5, 0.8, 1.05, 1.45], [6.35, 6.6, 7.0, 7.3, 7.62, 7.86, 7.98])
BROW = ([0.11, 0.2, 0.34, 0.46, 0.6], [7.455, 7.49, 7.525, 7.50, 7.42])


@dataclass(frozen=True, slots=True, kw_only=True)
class Makeup:
    """The quads (k, 4) that are painted, with albedo (k, 3) RGB in 0..1, gloss (k,), two_sided (k,)."""

    quads: NDArray[np.int32]
    albedo: Floats
    gloss: Floats
    two_sided: NDArray[np.bool_]
    volume: Floats  # (n, 1) decimetres by which the scalp stands out along its normal


def makeup(rng: np.random.Generator, *, female: bool, races: Floats, head: Template) -> Makeup:
    """Random colours, haircut and clothes that go with an identity."""
    dark = rng.random() < races[0] + races[1]
    hair = HAIR[rng.choice(len(HAIR), p=DARK_HAIR if dark else ANY_HAIR)] * rng.uniform(0.85, 1.15)
    skin = np.clip(races @ SKIN * rng.uniform(0.9, 1.08) + rng.normal(0, 0.012, 3), 0.1, 0.98)
    lips = skin * (0.86, 0.62, 0.62) if female else skin * (0.88, 0.72, 0.70)
    iris = IRIS[rng.choice(2 if dark else len(IRIS))]
    cloth = np.clip(rng.uniform(0.12, 0.8) + rng.normal(0, 0.16, 3), 0.05, 0.9)

    inside = cavity(head.uv, head.part)
    albedo = np.tile(skin, (len(head.quads), 1)) * (1 + rng.normal(0, 0.008, (len(head.quads), 1)))
    beard = 0.0 if female else rng.uniform(0.0, 0.5)
    layers = (
        (_blush(head), skin * (1.0, 0.82, 0.80), rng.uniform(0.2, 0.5)),
        (_beard(head), hair * 0.6 + skin * 0.25, beard),
        (_lips(head), lips, rng.uniform(0.75, 1.0)),
        (_brows(head, 0.04 if female else 0.052), hair * 0.75, rng.uniform(0.72, 0.95)),
        (_scalp(head), hair, 1.0),
        (_cloth(head, rng.uniform(5.84, 6.02), rng.uniform(0.0, 1.6)), cloth, 1.0),
        (inside, np.array([0.16, 0.05, 0.05]), 1.0),
    )
    for mask, colour, strength in layers:
        albedo += (strength * mask)[:, None] * (colour - albedo)
    for part, colour in (
        ("teeth", np.array([0.88, 0.85, 0.78])),
        ("tongue", np.array([0.55, 0.25, 0.25])),
        ("lash", hair * 0.35),
        ("hair", hair),
    ):
        albedo[_is(head, part)] = colour
    albedo[_is(head, "hair")] *= 1 + rng.normal(0, 0.08, (int(_is(head, "hair").sum()), 1))
    albedo[_is(head, "eye")] = _eyes(head, iris)

    long_hair = female and rng.random() < 0.8
    length = rng.uniform(4.9, 6.6) if long_hair else np.inf
    x, y, z = head.centres.T
    curtain = (
        _is(head, "hair")
        & (y > length)
        & (np.abs(x) > np.interp(y, [6.5, 7.3, 8.0, 8.3], [0.0, 0.72, 0.62, 0.3]) * (z > 0.2))
        & (z < 1.05)
    )
    gloss = np.where(_is(head, "skin"), 0.10, 0.12) * (1 - _cloth(head, 5.9, 0.5))
    gloss[_is(head, "eye")] = 0.5
    gloss[inside] = 0.0
    volume = rng.uniform(0.05, 0.16) if female else rng.uniform(0.02, 0.13)
    shown = ~_is(head, "hair") | curtain
    return Makeup(
        quads=head.quads[shown],
        albedo=np.clip(albedo, 0, 1).astype(np.float32)[shown],
        gloss=gloss.astype(np.float32)[shown],
        two_sided=(_is(head, "lash") | _is(head, "hair"))[shown],
        volume=(volume * _to_vertices(head, _scalp(head)))[:, None],
    )


def _is(head: Template, part: str) -> NDArray[np.bool_]:
    return head.part == PARTS.index(part)


def _soft(distance: Floats, edge: float) -> Floats:
    """1 where distance <= -edge, 0 where distance >= edge, linear between."""
    return np.clip(0.5 - distance / (2 * edge), 0, 1).astype(np.float32)


def _lips(head: Template) -> Floats:
    """MakeHuman's own mask of the lips, looked up in its texture."""
    texture = cv2.imread(str(assets_folder() / LIPS), cv2.IMREAD_GRAYSCALE)
    rows, columns = texture.shape
    u, v = head.uv.T % 1
    values = texture[((1 - v) * (rows - 1)).astype(int), (u * (columns - 1)).astype(int)] / 255
    return (values * _is(head, "skin")).astype(np.float32)


def _brows(head: Template, thickness: float) -> Floats:
    x, y, z = head.centres.T
    side = np.abs(x)
    thin = thickness * np.interp(side, [0.1, 0.16, 0.4, 0.58], [0.7, 1.0, 0.9, 0.35])
    along = _soft(np.abs(side - 0.345) - 0.235, 0.02)
    return _soft(np.abs(y - np.interp(side, *BROW)) - thin, 0.02) * along * (_is(head, "skin") & (z > 0.9))


def _scalp(head: Template) -> Floats:
    x, y, z = head.centres.T
    ear = (head.uv[:, 0] > 0.8) & (head.uv[:, 0] < 0.9) & ((head.uv[:, 1] < 0.35) | (head.uv[:, 1] > 0.6)) & (z > 0.2)
    return _soft(np.interp(z, *HAIRLINE) - y, 0.05) * (_is(head, "skin") & ~(ear & (y < 7.55)))


def _beard(head: Template) -> Floats:
    x, y, z = head.centres.T
    jaw = (
        _soft(y - np.interp(np.abs(x), [0.0, 0.3, 0.7], [6.8, 6.75, 6.95]), 0.08)
        * _soft(6.05 - y, 0.1)
        * _soft(0.45 - z, 0.2)
    )
    return jaw * _is(head, "skin")


def _blush(head: Template) -> Floats:
    x, y, z = head.centres.T
    spot = np.exp(-(((np.abs(x) - 0.42) / 0.18) ** 2) - ((y - 6.9) / 0.16) ** 2)
    return (spot * (_is(head, "skin") & (z > 0.6))).astype(np.float32)


def _cloth(head: Template, collar: float, vee: float) -> Floats:
    """Below the collar (y at the side of the neck); `vee` deepens the neckline towards the middle of the chest."""
    x, y, z = head.centres.T
    line = collar - vee * np.clip(0.42 - np.abs(x), 0, 1) * (z > 0.2)
    return _soft(y - line, 0.03) * _is(head, "skin")


def _eyes(head: Template, iris: Floats) -> Floats:
    """Colours (k, 3) of the eyeballs' quads by their distance from the middle of the pupil."""
    centres = head.centres[_is(head, "eye")]
    radius = np.hypot(np.abs(centres[:, 0]) - 0.31, centres[:, 1] - 7.285) + 9.0 * (centres[:, 2] < 1.25)
    white, black = np.array([0.90, 0.88, 0.86]), np.array([0.03, 0.03, 0.03])
    colours = white + _soft(radius - 0.078, 0.012)[:, None] * (iris - white)
    return np.asarray(colours + _soft(radius - 0.034, 0.01)[:, None] * (black - colours), np.float32)


def _to_vertices(head: Template, values: Floats) -> Floats:
    """(n,) the mean over the quads around each vertex."""
    quad, start = head.fan
    return np.add.reduceat(values[quad], start) / np.diff(start, append=len(quad)).astype(np.float32)

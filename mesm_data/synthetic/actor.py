"""Rendered people who talk and show emotions. They are not real, and nothing was learned from real people."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mesm_data.synthetic.head import Floats, apply_pose, identity, template
from mesm_data.synthetic.makeup import makeup
from mesm_data.synthetic.raster import SCALE, normals, paint, shade, unit

EMOTIONS = ("neu", "hap", "sad", "ang", "exc", "fru", "sur", "fea", "dis")

HEIGHT, WIDTH = 480, 360  # of a frame: half of IEMOCAP's split screen
TOP, BOTTOM = 120, 360  # letterbox: rows outside are black
LIDS = slice(98, 121)  # rows below TOP that a blink changes in a sprite and the mouth does not
CHIN_LINE, SHOULDER_LINE = 170.0, 205.0  # rows below TOP: a sprite's motion fades out between them

# The expression units of each emotion at strength 1. A name without a side stands for left and right.
# Decodability: 10 people, 600 crops of 48x48 around the face that MTCNN finds, the first 6 emotions, a
# linear classifier, leave-one-person-out: .74 at strength 1, .69 at .8, .61 at .6 (pixels; HOG .81, .79, .71).
EXPRESSIONS: Mapping[str, Mapping[str, float]] = {
    "neu": {},
    "hap": {"mouthSmile": 0.85, "cheekSquint": 0.6, "mouthDimple": 0.3, "eyeSquint": 0.3},
    "sad": {"browInnerUp": 1.2, "mouthFrown": 1.0, "mouthShrugLower": 0.5, "eyeBlink": 0.2, "eyeLookDown": 0.3},
    "ang": {"browDown": 1.2, "noseSneer": 0.9, "mouthUpperUp": 0.6, "eyeWide": 0.4, "mouthStretch": 0.5},
    "exc": {"mouthSmile": 0.75, "browInnerUp": 0.8, "browOuterUp": 0.9, "eyeWide": 0.8, "mouthUpperUp": 0.5,
            "mouthLowerDown": 0.5},
    "fru": {"browDown": 0.9, "mouthPress": 0.8, "mouthFrown": 0.6, "mouthShrugLower": 0.7, "mouthDimple": 0.5,
            "eyeSquint": 0.5},
    "sur": {"browInnerUp": 1.1, "browOuterUp": 1.1, "eyeWide": 1.1, "jawOpen": 0.2},
    "fea": {"browInnerUp": 1.1, "browDown": 0.4, "eyeWide": 1.0, "mouthStretch": 1.0},
    "dis": {"noseSneer": 1.2, "mouthUpperUp": 0.8, "browDown": 0.6, "mouthFrown": 0.4, "eyeSquint": 0.6},
}  # fmt: skip
UNSIDED = frozenset({"browInnerUp", "mouthShrugLower", "mouthShrugUpper", "jawOpen"})
REST = 0.3  # eyeWide of a neutral face: without it half of the identities look drowsy

# Mouths of the bank: (jaw, round).
MOUTHS = ((0.0, 0.0), (0.35, 0.0), (0.7, 0.0), (1.0, 0.0), (0.4, 1.0))
STRENGTHS = 5  # the bank's strengths are multiples of 1/5
LIGHT = unit(np.array([-0.35, 0.45, 0.82], np.float32))  # from the upper left of the picture
# Where motion-capture markers sit (x, y of the base mesh, both sides): forehead, brows, cheeks, nose, lips, chin.
MARKERS = (
    (0.0, 7.80), (0.3, 7.76), (0.16, 7.60), (0.38, 7.63), (0.55, 7.52), (0.0, 7.30), (0.62, 7.20), (0.30, 7.02),
    (0.48, 7.02), (0.0, 7.02), (0.60, 6.90), (0.42, 6.80), (0.2, 6.80), (0.52, 6.66), (0.0, 6.79), (0.14, 6.74),
    (0.30, 6.61), (0.0, 6.47), (0.15, 6.50), (0.38, 6.45), (0.0, 6.28), (0.2, 6.30),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The state of a face: the emotion (of EMOTIONS), its strength, and the articulation; numbers are in 0..1."""

    emotion: str
    strength: float
    jaw: float
    round: float
    blink: float


class Actor:
    """One synthetic person. The same arguments give the same pictures.

    Mode "full" renders every picture in 3D (about 25 ms). Mode "bank" renders each combination of emotion, strength
    and mouth once, on first use, and moves it in 2D (about 2 ms per picture).
    """

    def __init__(self, *, seed: int, female: bool, markers: bool, mode: str = "bank") -> None:
        if mode not in ("bank", "full"):
            raise ValueError(f"mode is 'bank' or 'full', not {mode!r}")
        rng = np.random.default_rng([seed, int(female)])
        self._full = mode == "full"
        self._head = template()
        shape, ancestry = identity(rng, female=female, head=self._head)
        self._makeup = makeup(rng, female=female, ancestry=ancestry, head=self._head)
        self._shape = shape + self._makeup.volume * normals(shape, self._head.quads, self._head.fan)
        self._manner = _manner(rng, tuple(self._head.units))
        self._wall = _wall(rng)
        self._sway = rng.uniform(0.1, 0.5, (3, 3)), rng.uniform(0, 2 * np.pi, (3, 3))  # frequencies in Hz, phases
        self._dots = _nearest(self._head.vertices, MARKERS) if markers else np.zeros(0, np.intp)
        self._bank: dict[tuple[str, int, tuple[float, float], bool], NDArray[np.uint8]] = {}

    def picture(self, look: Look, t: float) -> NDArray[np.uint8]:
        """Return the picture (480, 360, 3) RGB at t seconds: head and shoulders in rows 120 to 359, black elsewhere."""
        motion = self._motion(t)
        sprite = self._render(look, motion) if self._full else _move_sprite(self._sprite(look), motion)
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        rest = cv2.cvtColor(255 - sprite[:, :, 3], cv2.COLOR_GRAY2RGB)
        picture[TOP:BOTTOM] = cv2.add(sprite[:, :, :3], cv2.multiply(self._wall, rest, scale=1 / 255))
        return picture

    def _motion(self, t: float) -> tuple[float, float, float]:
        """Return yaw, pitch and roll in radians; independent of the emotion, so that only the face shows it."""
        frequency, phase = self._sway
        yaw, pitch, roll = np.sin(2 * np.pi * frequency * t + phase).mean(axis=1) * (0.14, 0.08, 0.07)
        return float(yaw), float(pitch), float(roll)

    def _sprite(self, look: Look) -> NDArray[np.uint8]:
        """Return the nearest frontal picture (240, 360, 4) of the bank."""
        strength = round(look.strength * STRENGTHS)
        mouth = min(MOUTHS, key=lambda mouth: (look.jaw - mouth[0]) ** 2 + (look.round - mouth[1]) ** 2)
        sprite = self._from_bank(look.emotion, strength, mouth, False)
        if look.blink > 0.5:
            sprite = sprite.copy()
            sprite[LIDS] = self._from_bank(look.emotion, strength, MOUTHS[0], True)[LIDS]
        return sprite

    def _from_bank(self, emotion: str, strength: int, mouth: tuple[float, float], blink: bool) -> NDArray[np.uint8]:
        """Return a picture of the bank; it is rendered on first use."""
        key = (emotion, strength, mouth, blink)
        if key not in self._bank:
            jaw, lips = mouth
            look = Look(emotion=emotion, strength=strength / STRENGTHS, jaw=jaw, round=lips, blink=float(blink))
            self._bank[key] = self._render(look, (0.0, 0.0, 0.0))
        return self._bank[key]

    def _render(self, look: Look, angles: tuple[float, float, float]) -> NDArray[np.uint8]:
        """Render the person on a transparent background, (240, 360, 4)."""
        head, paints = self._head, self._makeup
        points = apply_pose(head, self._shape, self._units(look), angles)
        normal = unit(normals(points, head.quads, head.fan)[paints.quads].mean(axis=1))
        colours = shade(paints.albedo, normal, paints.gloss, LIGHT)
        return paint(points, paints.quads, colours, paints.two_sided, (BOTTOM - TOP, WIDTH), points[self._dots])

    def _units(self, look: Look) -> dict[str, float]:
        """Return the weights of the expression units: the emotion in this person's style, then speech and blinking."""
        units = {"eyeWideLeft": REST, "eyeWideRight": REST}
        for name, weight in EXPRESSIONS[look.emotion].items():
            for full in (name,) if name in UNSIDED else (f"{name}Left", f"{name}Right"):
                units[full] = units.get(full, 0.0) + weight * look.strength * self._manner[full]
        speech = {"jawOpen": 0.55 * look.jaw, "mouthFunnel": 0.6 * look.round, "mouthPucker": 0.7 * look.round}
        for name, weight in speech.items():
            units[name] = units.get(name, 0.0) + weight
        for name in ("eyeBlinkLeft", "eyeBlinkRight"):
            units[name] = max(units.get(name, 0.0), look.blink)
        return units


def _manner(rng: np.random.Generator, names: tuple[str, ...]) -> dict[str, float]:
    """Draw how strongly a person uses each expression unit, with a small difference between the sides."""
    habits: dict[str, float] = {}
    manner = {}
    for name in names:
        both = name.removesuffix("Left").removesuffix("Right")
        habit = habits.setdefault(both, float(rng.lognormal(0.0, 0.2)))
        manner[name] = habit * float(rng.lognormal(0.0, 0.08))
    return manner


def _nearest(vertices: Floats, spots: tuple[tuple[float, float], ...]) -> NDArray[np.intp]:
    """Return the indices of the front vertices nearest to the spots and to their mirror images."""
    both = np.array([(side * x, y) for x, y in spots for side in ((1, -1) if x else (1,))], np.float32)
    distance = np.linalg.norm(vertices[None, :, :2] - both[:, None], axis=2)
    cost = distance + np.where(vertices[:, 2] < 0.9, np.inf, -0.3 * vertices[:, 2])
    return np.asarray(np.argmin(cost, axis=1), np.intp)


def _wall(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a plain background (240, 360, 3) with soft shadows."""
    coarse = rng.uniform(0.75, 1.0, (4, 5, 1)) * np.clip(rng.uniform(0.35, 0.75) + rng.normal(0, 0.05, 3), 0, 1) * 255
    size = (WIDTH, BOTTOM - TOP)
    return np.asarray(np.clip(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), 0, 255), np.uint8)


def _move_sprite(sprite: NDArray[np.uint8], motion: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Move the head of a frontal sprite (240, 360, 4) in 2D, approximately as `apply_pose` does in 3D."""
    yaw, pitch, roll = (np.float32(angle) for angle in motion)
    height, width = sprite.shape[:2]
    x, y = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
    neck = np.interp(y, (CHIN_LINE, SHOULDER_LINE), (1.0, 0.0)).astype(np.float32)
    from_x = x - neck * (yaw * SCALE + roll * (y - CHIN_LINE))
    from_y = y - neck * (pitch * SCALE - roll * (x - width / 2))
    return np.asarray(cv2.remap(sprite, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)

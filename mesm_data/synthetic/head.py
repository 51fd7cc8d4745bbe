"""A talking head as a linear model: base mesh + identity targets + expression units, then a neck-weighted rotation.

All functions use one fixed set of quads: the parts of MakeHuman's mesh that a head-and-shoulders picture shows, with
large quads subdivided. Subdivision is linear, so it is applied once to the base and to each target.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mesm_data.synthetic.assets import UNITS, BaseMesh, assets_folder, read_base, read_target

Floats = NDArray[np.float32]
Rounds = Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]]

PARTS = ("skin", "eye", "teeth", "tongue", "lash", "hair")
GROUPS = {
    "body": "skin",
    "helper-l-eye": "eye",
    "helper-r-eye": "eye",
    "helper-upper-teeth": "teeth",
    "helper-lower-teeth": "teeth",
    "helper-tongue": "tongue",
    "helper-l-eyelashes-2": "lash",
    "helper-r-eyelashes-2": "lash",
    "helper-hair": "hair",
}
TORSO_BOTTOM = 4.7  # below it, the upper arms of MakeHuman's pose leave the body
PIVOT = np.array([0.0, 6.2, 0.35], np.float32)  # top of the neck
NECK = (5.55, 6.15)  # a rotation of the head grows from 0 to 1 between these heights

# Antonyms of identity: {stem}-{first} at negative, {stem}-{second} at positive values. "?" stands for l and r.
SHAPES = (
    *((f"head/head-{name}", "decr", "incr") for name in ("scale-horiz", "scale-vert", "fat", "scale-depth")),
    ("head/head-angle", "in", "out"),
    *((f"nose/nose-{name}", "decr", "incr") for name in ("hump", "scale-horiz", "scale-vert", "volume", "point-width")),
    *((f"nose/nose-{name}", "down", "up") for name in ("point", "base", "trans")),
    *((f"chin/chin-{name}", "decr", "incr") for name in ("height", "width", "prominent", "bones")),
    *((f"cheek/?-cheek-{name}", "decr", "incr") for name in ("volume", "bones", "inner")),
    *((f"eyes/?-eye-{name}", "decr", "incr") for name in ("scale", "height2")),
    ("eyes/?-eye-trans", "in", "out"),
    ("eyes/?-eye-corner2", "down", "up"),
    *((f"mouth/mouth-{name}", "decr", "incr") for name in ("scale-horiz", "upperlip-volume", "lowerlip-volume")),
    *((f"mouth/mouth-{name}", "down", "up") for name in ("trans", "angles")),
    *((f"eyebrows/eyebrows-{name}", "down", "up") for name in ("trans", "angle")),  # some people look sad at rest
    *((f"forehead/forehead-{name}", "decr", "incr") for name in ("scale-vert", "temple")),
    *((f"ears/?-ear-{name}", "decr", "incr") for name in ("scale", "wing")),
)
OUTLINES = ("oval", "round", "rectangular", "square", "triangular", "invertedtriangular", "diamond")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The head model that all identities share; n vertices, q quads."""

    vertices: Floats  # (n, 3) decimetres, before identity
    quads: NDArray[np.int32]  # (q, 4)
    part: NDArray[np.int8]  # (q,) index in PARTS
    uv: Floats  # (q, 2) texture position of the centre
    units: Mapping[str, Floats]  # expression unit -> (n, 3) displacements
    neck: Floats  # (n, 1) share of the head's rotation
    eyes: NDArray[np.intp]  # vertices of the eyeballs
    slot: NDArray[np.intp]  # MakeHuman's vertex number -> ours, or -1
    fan: tuple[NDArray[np.intp], NDArray[np.intp]]  # quads sorted by vertex (4 q,), each vertex's first place (n,)
    rounds: Rounds  # subdivision: edges, quads

    @property
    def centres(self) -> Floats:
        """The centre of each quad, (q, 3), before identity."""
        return np.asarray(self.vertices[self.quads].mean(axis=1), np.float32)

    def shifts(self, path: Path) -> Floats:
        """Return the displacements (n, 3) of one morph target."""
        index, delta = read_target(path)
        ours = self.slot[index]
        dense = np.zeros((int(self.slot.max()) + 1, 3), np.float32)
        dense[ours[ours >= 0]] = delta[ours >= 0]
        return _refine(dense, self.rounds)


@functools.cache
def template() -> Template:
    """Read the head model and subdivide it, about 1 s. The result is cached and read-only."""
    folder = assets_folder()
    base = read_base(folder)
    quads, uv, part = _shown(base)
    kept, inverse = np.unique(quads, return_inverse=True)
    slot = np.full(len(base.vertices), -1, np.intp)
    slot[kept] = np.arange(len(kept))
    vertices, quads = base.vertices[kept].copy(), inverse.reshape(quads.shape).astype(np.int32)
    vertices[vertices[:, 1] < TORSO_BOTTOM + 0.1, 1] -= 0.7  # avoids a gap at the bottom of the picture
    mouth = np.unique(quads[np.isin(part, [PARTS.index("teeth"), PARTS.index("tongue")])])
    vertices[mouth, 2] -= 0.1  # otherwise the teeth of receding chins penetrate a smiling lip
    rounds: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
    for _ in range(2):
        large = _large(vertices[quads], uv, part)
        edges, corners, quads, uv, part = _split(quads, uv, part, large, len(vertices))
        rounds.append((edges, corners))
        vertices = _refine(vertices, rounds[-1:])
    height = np.clip((vertices[:, 1:2] - NECK[0]) / (NECK[1] - NECK[0]), 0, 1)
    order = np.argsort(quads, axis=None, kind="stable")
    head = Template(
        vertices=vertices,
        quads=quads,
        part=part,
        uv=uv.mean(axis=1),
        units={},
        neck=height * height * (3 - 2 * height),
        eyes=np.unique(quads[part == PARTS.index("eye")]),
        slot=slot,
        fan=(order // 4, np.searchsorted(quads.ravel()[order], np.arange(len(vertices)))),
        rounds=tuple(rounds),
    )
    units = {file.stem: head.shifts(file) for file in sorted((folder / UNITS).glob("*.target"))}
    return replace(head, units=units)


def _shown(base: BaseMesh) -> tuple[NDArray[np.int32], Floats, NDArray[np.int8]]:
    """Return the quads that a head-and-shoulders picture can show, their texture corners, and their part."""
    quads, uv, part = [], [], []
    for group, name in GROUPS.items():
        centre = base.vertices[base.quads[group]].mean(axis=1)
        keep = centre[:, 1] > TORSO_BOTTOM
        quads.append(base.quads[group][keep])
        uv.append(base.uv[group][keep])
        part.append(np.full(int(keep.sum()), PARTS.index(name), np.int8))
    return np.concatenate(quads), np.concatenate(uv), np.concatenate(part)


def _large(corners: Floats, uv: Floats, part: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return which quads are too large for one colour, by their diagonal; the limit is lowest on the face."""
    diagonal = np.maximum(
        np.linalg.norm(corners[:, 2] - corners[:, 0], axis=1), np.linalg.norm(corners[:, 3] - corners[:, 1], axis=1)
    )
    x, y, z = corners.mean(axis=1).T
    face = (y > 6.1) & (y < 8.1) & (z > 0.7)
    collar = (y > 5.2) & (y <= 6.1) & (z > 0.2) & (np.abs(x) < 0.5)
    limit = np.where(face, 0.11, np.where(collar, 0.13, 0.45))
    limit[part != PARTS.index("skin")] = 1.0
    limit[cavity(uv.mean(axis=1), part)] = 1.0
    limit[(part == PARTS.index("eye")) & (z > 1.25)] = 0.05
    return np.asarray(diagonal > limit, np.bool_)


def cavity(uv: Floats, part: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return which quads (q,) are inside the mouth: separate islands in MakeHuman's texture (uv (q, 2))."""
    inside = (uv[:, 0] > 0.7) & (uv[:, 1] < 0.15) & (part == PARTS.index("skin"))
    return np.asarray(inside, np.bool_)


def _split(
    quads: NDArray[np.int32], uv: Floats, part: NDArray[np.int8], large: NDArray[np.bool_], n: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], Floats, NDArray[np.int8]]:
    """Split each large quad into four. New vertices are numbered from n: edge midpoints, then quad centres."""
    old, texture = quads[large], uv[large]
    sides = np.stack([old, np.roll(old, -1, axis=1)], axis=2)  # (k, 4, 2)
    edges, number = np.unique(np.sort(sides.reshape(-1, 2), axis=1), axis=0, return_inverse=True)
    side = n + number.reshape(-1, 4)
    middle = np.arange(len(old)) + n + len(edges)
    uv_side = (texture + np.roll(texture, -1, axis=1)) / 2
    pieces, uv_pieces = [], []
    for k in range(4):
        pieces.append(np.stack([old[:, k], side[:, k], middle, side[:, k - 1]], axis=1))
        uv_pieces.append(np.stack([texture[:, k], uv_side[:, k], texture.mean(axis=1), uv_side[:, k - 1]], axis=1))
    return (
        edges.astype(np.int32),
        old,
        np.concatenate([quads[~large], *pieces]).astype(np.int32),
        np.concatenate([uv[~large], *uv_pieces]),
        np.concatenate([part[~large], *[part[large]] * 4]),
    )


def _refine(values: Floats, rounds: Rounds) -> Floats:
    """Interpolate values (n, 3) at the vertices to the subdivided mesh."""
    for edges, corners in rounds:
        values = np.concatenate([values, values[edges].mean(axis=1), values[corners].mean(axis=1)])
    return values


def identity(rng: np.random.Generator, *, female: bool, head: Template) -> tuple[Floats, Floats]:
    """Draw a random adult: vertices (n, 3), eyes at the origin, and weights (3,) of MakeHuman's three ancestries."""
    folder = assets_folder() / "mpfb2/targets"
    gender = "female" if female else "male"
    ancestry, old = rng.dirichlet([0.5, 0.5, 0.5]), rng.uniform(0.0, 0.6)
    shape = head.vertices.copy()
    for origin, share in zip(("african", "asian", "caucasian"), ancestry, strict=True):
        for age, weight in (("young", 1 - old), ("old", old)):
            shape += share * weight * head.shifts(folder / f"macrodetails/{origin}-{gender}-{age}.target.gz")
    shape += rng.uniform(0.2, 0.8) * head.shifts(folder / f"head/head-{rng.choice(OUTLINES)}.target.gz")
    for stem, low, high in SHAPES:
        value = float(np.clip(rng.normal(0.0, 0.45), -0.8, 0.8))  # beyond, chins and cheeks are distorted
        for side in "lr" if "?" in stem else " ":
            path = folder / f"{stem.replace('?', side)}-{high if value > 0 else low}.target.gz"
            shape += abs(value) * head.shifts(path)
    return (shape - shape[head.eyes].mean(axis=0)).astype(np.float32), ancestry.astype(np.float32)


def apply_pose(head: Template, shape: Floats, units: Mapping[str, float], angles: tuple[float, float, float]) -> Floats:
    """Return the vertices (n, 3) with an expression and a pose: yaw, pitch and roll of the head in radians."""
    moved = shape.copy()
    for name, weight in units.items():
        moved += np.float32(weight) * head.units[name]
    pivot = PIVOT - head.vertices[head.eyes].mean(axis=0)
    local = moved - pivot
    turned = np.einsum("ni,ji->nj", local, _rotation(*angles))  # "@" would start threads needlessly
    return np.asarray(moved + head.neck * (turned - local), np.float32)


def _rotation(yaw: float, pitch: float, roll: float) -> Floats:
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y, np.float32)

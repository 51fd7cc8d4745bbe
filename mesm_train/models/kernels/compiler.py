"""How the C++ kernels are compiled: by hatch_build.py when mesm is installed, by build.py on first use.

Only the standard library is used: hatch_build.py loads this file by its path, where torch may not be installed.
"""

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCES = tuple(sorted(Path(__file__).parent.glob("*.cpp")))
HEADERS = tuple(sorted(Path(__file__).parent.glob("*.h")))
FLAGS = ("-O3", "-std=c++17", "-fopenmp", "-fPIC")
# The instruction sets that an installation compiles for, the best first. A feature has the same name in /proc/cpuinfo
# and in GCC's option -m.
LEVELS: Mapping[str, tuple[str, ...]] = {
    "avx512": ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"),
    "avx2": ("avx2", "fma"),
}


class BuildError(Exception):
    """Why there are no C++ kernels here, as the end of a sentence."""


def find_compiler() -> str:
    """The GCC that CXX names, or g++. Raises BuildError if there is none."""
    compiler = os.environ.get("CXX") or "g++"
    if shutil.which(compiler) is None:
        raise BuildError(f"there is no compiler {compiler} (install g++, or name another GCC in CXX)")
    return compiler


def level_options(level: str) -> list[str]:
    """GCC's options for one of LEVELS."""
    return [f"-m{feature}" for feature in LEVELS[level]]


def compile_sources(compiler: str, options: Sequence[str], sources: Sequence[Path], path: Path) -> None:
    """Write the shared library of `sources` to `path`, with further `options` such as -march=native.

    It is not linked with an OpenMP library: torch brings one into the process, and a second one would compete for the
    same cores. Raises BuildError.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        objects = [f"{source.stem}.o" for source in sources]
        steps = [
            [compiler, *FLAGS, *options, "-c", *map(str, sources)],
            [compiler, "-shared", *objects, "-o", str(path)],
        ]
        for step in steps:
            done = subprocess.run(step, cwd=folder, capture_output=True, text=True)
            if done.returncode != 0:
                lines = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()
                # Later lines are consequences: on a full disk, that there is no such file.
                first_error = next((line for line in lines if "error:" in line.lower()), lines[-1])
                raise BuildError(f"{compiler} does not compile them ({first_error})")


def cpu_description() -> str:
    """The machine and the features of its CPU, in one line."""
    try:
        # flags		: fpu vme de pse tsc ... avx2 ... avx512f
        match = re.search(r"^(?:flags|Features)\s*:.*$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return f"{platform.machine()} {match.group() if match else platform.processor()}"


def supported_levels() -> list[str]:
    """Those of LEVELS that this machine can run, the best first."""
    features = set(cpu_description().split())
    return [level for level, needed in LEVELS.items() if features.issuperset(needed)]

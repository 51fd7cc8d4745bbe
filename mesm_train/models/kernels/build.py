"""The C++ kernels as a shared library, compiled on first use into the user's cache.

The file's name holds a digest of the sources, the compiler, its flags, the OpenMP library and the CPU's features, so a
change of any of them compiles anew and machines that share a home do not share what they cannot run.
"""

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from mesm_data.errors import MesmError
from mesm_data.files import atomic_write, sha256_file

SOURCES = tuple(sorted(Path(__file__).parent.glob("*.cpp")))
HEADERS = tuple(sorted(Path(__file__).parent.glob("*.h")))
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-fPIC", "-shared")


class BuildError(Exception):
    """Why there are no C++ kernels here, as the end of a sentence."""


def library() -> ctypes.CDLL:
    """The library, compiled if it is not in the cache. Several processes may call this at once.

    Raises BuildError.
    """
    compiler = os.environ.get("CXX") or "g++"
    if shutil.which(compiler) is None:
        raise BuildError(f"there is no compiler {compiler} (install g++, or name another GCC in CXX)")
    openmp = loaded_openmp()
    path = cache_folder() / f"kernels-{digest(compiler, openmp)}.so"
    try:
        if not is_whole(path):
            compile_library(compiler, openmp, path)
        return ctypes.CDLL(str(path))
    except (OSError, MesmError) as error:
        raise BuildError(f"{path} cannot be written or loaded ({error})") from error


def is_whole(path: Path) -> bool:
    """Whether a library is in the cache with the digest that stands beside it.

    A power cut may leave it empty or torn: to load that ends the process (SIGBUS), or fails at every start.
    """
    try:
        return path.with_suffix(".sha256").read_text() == sha256_file(path)
    except (OSError, ValueError):
        return False


def cache_folder() -> Path:
    """XDG_CACHE_HOME/mesm, ~/.cache/mesm without it. Raises BuildError if there is no home either."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mesm"
    except RuntimeError:
        raise BuildError("this user has no home folder: set XDG_CACHE_HOME to a folder to use instead") from None


def digest(compiler: str, openmp: str | None) -> str:
    """Of everything that the compiled library depends on."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    sources = (path.read_bytes() for path in (*HEADERS, *SOURCES))
    parts = (*sources, version.encode(), " ".join(FLAGS).encode(), str(openmp).encode(), cpu().encode())
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:16]


def cpu() -> str:
    """The machine and the features of its CPU."""
    try:
        found = re.search(r"^(?:flags|Features)\s*:.*$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return f"{platform.machine()} {found.group() if found else platform.processor()}"


def loaded_openmp() -> str | None:
    """The OpenMP library that torch brought into this process; a second one would compete for the same cores."""
    import torch  # noqa: F401

    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    found = re.search(r"\S*/lib(?:gomp|iomp5|omp)[^/\s]*\.so\S*", mapped)
    return found.group() if found else None


def compile_library(compiler: str, openmp: str | None, path: Path) -> None:
    """Compile to `path`, in a folder of its own and then renamed, and write the digest beside it.

    Of several processes the last one wins. The compiler gives the same bytes each time; if it did not, the digest
    would not fit, and the next process would compile again. Raises BuildError, OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        # -fopenmp at linking would add the compiler's own library.
        compiled = [f"{source.stem}.o" for source in SOURCES]
        steps = [
            [compiler, *(flag for flag in FLAGS if flag != "-shared"), "-c", *map(str, SOURCES)],
            [compiler, "-shared", *compiled, *([openmp] if openmp else ["-fopenmp"]), "-o", str(made)],
        ]
        for step in steps:
            done = subprocess.run(step, cwd=folder, capture_output=True, text=True)
            if done.returncode != 0:
                lines = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()
                # The last ones are what comes of it: on a full disk, that there is no such file.
                said = next((line for line in lines if "error:" in line.lower()), lines[-1])
                raise BuildError(f"{compiler} does not compile them ({said})")
        with made.open("rb") as file:
            os.fsync(file.fileno())
        sha256 = sha256_file(made)
        made.replace(path)
    with atomic_write(path.with_suffix(".sha256")) as file:
        file.write(sha256.encode())

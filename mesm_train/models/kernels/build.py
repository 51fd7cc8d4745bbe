"""The C++ kernels as a shared library: the one that was compiled at installation, or one compiled on first use.

An installation has a library for each level of instruction sets (compiler.py); the best that this CPU can run is taken.
Where there is none, the sources are compiled for this very CPU into the user's cache. The file's name there holds a
digest of the sources, the compiler, its flags and the CPU's features, so a change of any of them compiles anew and
machines that share a home do not share what they cannot run.
"""

import ctypes
import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

from mesm_data.errors import MesmError
from mesm_data.storage.files import atomic_write, sha256_file
from mesm_train.models.kernels import compiler as recipe
from mesm_train.models.kernels.compiler import HEADERS, SOURCES, BuildError

INSTALLED = Path(__file__).parent / "installed"  # what hatch_build.py put there
NATIVE = ("-march=native",)


def library() -> ctypes.CDLL:
    """The library, compiled if it is neither installed nor in the cache. Several processes may call this at once.

    Raises BuildError.
    """
    share_openmp()
    return installed_library() or cached_library()


def installed_library(folder: Path = INSTALLED) -> ctypes.CDLL | None:
    """The best library of `folder` that this CPU can run; None if none is whole and loads."""
    for level in recipe.supported_levels():
        path = folder / f"kernels-{level}.so"
        if is_whole(path):
            try:
                return ctypes.CDLL(str(path))
            except OSError:  # compiled where the C library is newer
                continue
    return None


def cached_library() -> ctypes.CDLL:
    """The library for this very CPU, compiled if it is not in the cache. Raises BuildError."""
    compiler = recipe.find_compiler()
    path = cache_folder() / f"kernels-{digest(compiler)}.so"
    try:
        if not is_whole(path):
            compile_library(compiler, SOURCES, path)
        return ctypes.CDLL(str(path))
    except (OSError, MesmError) as error:
        raise BuildError(f"{path} cannot be written or loaded ({error})") from error


def is_whole(path: Path) -> bool:
    """Whether a library is there and has the digest that stands beside it.

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


def digest(compiler: str) -> str:
    """Of everything that the compiled library depends on."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    sources = (path.read_bytes() for path in (*HEADERS, *SOURCES))
    flags = " ".join((*recipe.FLAGS, *NATIVE))
    whole = hashlib.sha256()
    for part in (*sources, version.encode(), flags.encode(), recipe.cpu_description().encode()):
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:16]


def share_openmp() -> None:
    """Let the kernels find the OpenMP library that torch brought into this process.

    Wheels of torch for Linux make its symbols global when they are imported. Where that is not so, this does it; where
    torch has no OpenMP library, the system's is taken. If there is none at all, loading the kernels fails and says so.
    """
    import torch  # noqa: F401

    if hasattr(ctypes.CDLL(None), "GOMP_parallel"):
        return
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        mapped = ""
    # 7f1c6c000000-7f1c6c00a000 r--p 00000000 fe:00 263 /usr/lib/python3/site-packages/torch/lib/libgomp.so.1
    match = re.search(r"\S*/lib(?:gomp|iomp5|omp)[^/\s]*\.so\S*", mapped)
    try:
        ctypes.CDLL(match.group() if match else "libgomp.so.1", mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return


def compile_library(compiler: str, sources: tuple[Path, ...], path: Path) -> None:
    """Compile to `path`, in a folder of its own and then renamed, and write the digest beside it.

    Of several processes the last one wins. The compiler gives the same bytes each time; if it did not, the digest
    would not fit, and the next process would compile again. Raises BuildError, OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        library = Path(folder) / path.name
        recipe.compile_sources(compiler, NATIVE, sources, library)
        with library.open("rb") as file:
            os.fsync(file.fileno())
        sha256 = sha256_file(library)
        library.replace(path)
    with atomic_write(path.with_suffix(".sha256")) as file:
        file.write(sha256.encode())

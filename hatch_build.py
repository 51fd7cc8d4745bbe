"""Compiles the C++ kernels into the wheel, where there is a compiler: a library for each level of instruction sets.

Without a compiler, on another processor or system, and in an editable installation the wheel holds the sources only,
and mesm compiles them on first use or computes in PyTorch.
"""

import hashlib
import importlib.util
import platform
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNELS = "mesm_train/models/kernels"


class KernelsHook(BuildHookInterface):
    """What hatchling calls before and after it writes a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and include what was compiled. `version` is "standard" or "editable"."""
        if version == "editable" or sys.platform != "linux" or platform.machine() != "x86_64":
            return
        compiler = _load(Path(self.root) / KERNELS / "compiler.py")
        self.folder = tempfile.TemporaryDirectory(prefix="mesm-kernels-")
        try:
            for level in compiler.LEVELS:
                path = Path(self.folder.name) / f"kernels-{level}.so"
                options = compiler.level_options(level)
                compiler.compile_sources(compiler.find_compiler(), options, compiler.SOURCES, path)
                path.with_suffix(".sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
        except compiler.BuildError as error:
            self.app.display_warning(f"the wheel has no compiled kernels: {error}")
            return
        for path in sorted(Path(self.folder.name).iterdir()):
            build_data["force_include"][str(path)] = f"{KERNELS}/installed/{path.name}"
        build_data["pure_python"] = False
        # The library is called through ctypes: any Python 3 will do.
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the folder that was compiled in."""
        if hasattr(self, "folder"):
            self.folder.cleanup()


def _load(path: Path) -> ModuleType:
    """A module by its file: its package would import torch."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

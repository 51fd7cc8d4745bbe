"""Builds aligned, verifiable WebDataset shards from raw emotion corpora.

`open_dataset` reads a dataset, `build` builds one, `verify` compares one with its manifest; docs/api.md has examples.
Every name is imported when it is first used, so `import mesm_data` is fast.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesm_data.dataset.reader import Dataset
    from mesm_data.dataset.remote_shards import open_dataset
    from mesm_data.dataset.sample import Sample
    from mesm_data.errors import InputError, MesmError
    from mesm_data.pipeline.api import build, verify
    from mesm_data.splits.resolve import Split

__version__: str
__all__ = [
    "Dataset", "InputError", "MesmError", "Sample", "Split", "__version__", "build", "open_dataset", "verify",
]  # fmt: skip


def lazy_exports(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make `__getattr__` and `__dir__` of a package that imports its public names when they are first used.

    Args:
        package: The name of the package, which also gets `__version__`.
        modules: Public name -> the module that defines it.
    """

    def get(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version  # takes as long to import as everything else together

            return version("mesm")
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules, "__version__"})

    return get, names


if not TYPE_CHECKING:  # type checkers use the imports above, and so report misspelt names
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "Dataset": "mesm_data.dataset.reader",
            "InputError": "mesm_data.errors",
            "MesmError": "mesm_data.errors",
            "Sample": "mesm_data.dataset.sample",
            "Split": "mesm_data.splits.resolve",
            "build": "mesm_data.pipeline.api",
            "open_dataset": "mesm_data.dataset.remote_shards",
            "verify": "mesm_data.pipeline.api",
        },
    )

"""Raw emotion corpora to aligned, verifiable WebDataset shards.

`open_dataset` reads a dataset, `build` makes one, `verify` compares one with its manifest; docs/api.md shows them at
work. Everything is imported when it is first used, so `import mesm_data` is quick.
"""

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

_MODULES = {
    "Dataset": "mesm_data.dataset.reader",
    "InputError": "mesm_data.errors",
    "MesmError": "mesm_data.errors",
    "Sample": "mesm_data.dataset.sample",
    "Split": "mesm_data.splits.resolve",
    "build": "mesm_data.pipeline.api",
    "open_dataset": "mesm_data.dataset.remote_shards",
    "verify": "mesm_data.pipeline.api",
}

if not TYPE_CHECKING:  # a type checker sees the imports above, and that a misspelt name does not exist

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used."""
        if name == "__version__":
            from importlib.metadata import version

            return version("mesm")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

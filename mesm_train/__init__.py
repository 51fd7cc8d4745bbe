"""Trains multimodal emotion models on the shards that mesm_data builds.

`load` opens a trained model, whose `predict` takes a media file. `collate` packs samples of any reader into a `Batch`,
which the models take; docs/api.md shows training loops on it.
Everything is imported when it is first used, so `import mesm_train` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesm_train.data.batch import Batch
    from mesm_train.data.collate import collate
    from mesm_train.inference.load import load
    from mesm_train.inference.predictor import Predictor

__version__: str
__all__ = ["Batch", "Predictor", "__version__", "collate", "load"]

_MODULES = {
    "Batch": "mesm_train.data.batch",
    "Predictor": "mesm_train.inference.predictor",
    "collate": "mesm_train.data.collate",
    "load": "mesm_train.inference.load",
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

"""Trains multimodal emotion models on the shards that mesm_data builds.

`load` opens a trained model, whose `predict` takes a media file. `collate` packs samples of any reader into a `Batch`,
which the models take; docs/api.md shows custom training loops.
Every name is imported when it is first used, so `import mesm_train` is fast.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesm_train.data.batch import Batch
    from mesm_train.data.collate import collate
    from mesm_train.inference.load import load
    from mesm_train.inference.predictor import Predictor
else:
    from mesm_data import lazy_exports

    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "Batch": "mesm_train.data.batch",
            "Predictor": "mesm_train.inference.predictor",
            "collate": "mesm_train.data.collate",
            "load": "mesm_train.inference.load",
        },
    )

__version__: str
__all__ = ["Batch", "Predictor", "__version__", "collate", "load"]

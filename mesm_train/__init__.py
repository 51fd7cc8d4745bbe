"""Trains multimodal emotion models on the shards that mesm_data builds.

`collate` packs samples of any reader into a `Batch`, which the models take; docs/api.md shows custom training loops.
Every name is imported when it is first used, so `import mesm_train` is fast.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesm_train.data.batch import Batch
    from mesm_train.data.collate import collate
else:
    from mesm_data import lazy_exports

    __getattr__, __dir__ = lazy_exports(
        __name__, {"Batch": "mesm_train.data.batch", "collate": "mesm_train.data.collate"}
    )

__version__: str
__all__ = ["Batch", "__version__", "collate"]

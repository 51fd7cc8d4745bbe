"""What a sample costs to compute, for the plan: known from the manifest, before anything is read."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mesm_data.dataset.manifest_index import ManifestRows
from mesm_train.data.mel import COLUMNS, HOP, MELS, SHORTEST

FACE = 48 * 48  # pixels: the convolutions, nearly all of the work, cost the same for each
PIECE = MELS * COLUMNS


def costs(rows: ManifestRows, modalities: Sequence[str]) -> NDArray[np.int64]:
    """Pixels that the stacks read of each row, int64 (rows,). For a model of text alone: its words, and one."""
    total = np.zeros(len(rows), np.int64)
    if "v" in modalities:
        total += FACE * rows.int_column("n_faces")
    if "a" in modalities:
        samples = rows.int_column("n_samples")
        columns = np.where(samples > 0, 1 + np.maximum(samples, SHORTEST) // HOP, 0)
        total += PIECE * (-(-columns // COLUMNS))
    return total if set(modalities) & {"v", "a"} else rows.int_column("n_words") + 1

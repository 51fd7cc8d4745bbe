"""The computing cost of each sample, for the plan of an epoch. It follows from the manifest alone."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mesm_data.dataset.manifest_index import ManifestRows
from mesm_train.data.mel import COLUMNS, MELS, count_pieces

FACE = 48 * 48  # pixels; convolutions are nearly all of the work, and cost the same per pixel
PIECE = MELS * COLUMNS


def sample_costs(rows: ManifestRows, modalities: Sequence[str]) -> NDArray[np.int64]:
    """Input pixels of each row of the manifest, int64 (rows,). For a model of text alone: its words plus one."""
    total = np.zeros(len(rows), np.int64)
    if "v" in modalities:
        total += FACE * rows.int_column("n_faces")
    if "a" in modalities:
        total += PIECE * count_pieces(torch.tensor(rows.int_column("n_samples"))).numpy()
    return total if set(modalities) & {"v", "a"} else rows.int_column("n_words") + 1

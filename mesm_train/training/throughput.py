"""Utilization of the devices: floating-point operations of a batch, peak rates (for MFU), memory."""

import re
import resource
import sys
from typing import Any

import torch

from mesm_train.data.batch import Batch
from mesm_train.data.mel import count_pieces
from mesm_train.models.baselines.make import AnyModel
from mesm_train.models.baselines.two_phase import TwoPhaseModel
from mesm_train.models.flops import dense_macs

# Dense peaks in TFLOP/s from NVIDIA's data sheets: bf16 and fp16, TF32, float32.
PEAKS = {
    "A100": {"lower": 312.0, "tf32": 156.0, "fp32": 19.5},
    "H100 PCIe": {"lower": 756.0, "tf32": 378.0, "fp32": 51.0},
    "H100": {"lower": 989.0, "tf32": 494.0, "fp32": 67.0},
    "H200": {"lower": 989.0, "tf32": 494.0, "fp32": 67.0},
    "L40S": {"lower": 362.0, "tf32": 183.0, "fp32": 91.6},
    "L4": {"lower": 121.0, "tf32": 60.0, "fp32": 30.3},
}


class OperationCounter:
    """Counts the floating-point operations of training on a batch, as if every site were active.

    These are a multiplication and an addition per MAC of flops.py, and twice the forward pass for the backward pass.
    For kind mesm this is what the dense model would need: counting the selected sites would block on the device.
    """

    def __init__(self, model: AnyModel) -> None:
        self._two_phase = model if isinstance(model, TwoPhaseModel) else None
        self._unknown = any(True for _ in model.encoder_parameters())
        self._settings = model.settings
        self._encoder: Any = None if model.text is None else model.text.encoder.config
        self._cache: dict[tuple[int, int, int], float] = {}

    def of(self, batch: Batch) -> float:
        """Of one batch, whose counts lie on the CPU; 0: not known, of a pretrained speech or image encoder."""
        if self._unknown:
            return 0.0
        if self._two_phase is not None:
            rows = {m: each.counts.tolist() for m, each in batch.features.items()}
            sizes = ({m: count[number] for m, count in rows.items()} for number in range(len(batch.keys)))
            return sum(6.0 * sum(self._two_phase.macs(size).values()) for size in sizes)
        counts = (batch.face_counts, count_pieces(batch.sample_counts), batch.token_counts)
        return sum(self._utterance(*sizes) for sizes in zip(*(count.tolist() for count in counts), strict=True))

    def _utterance(self, faces: int, pieces: int, tokens: int) -> float:
        sizes = (faces, pieces, tokens)
        if sizes not in self._cache:
            parts = dense_macs(self._settings, self._encoder, faces=faces, pieces=pieces, tokens=tokens)
            self._cache[sizes] = 6.0 * sum(parts.values())
        return self._cache[sizes]


def peak_operations(device: torch.device, precision: str) -> float | None:
    """The peak of a device in operations per second; None if it is not known (a CPU, another GPU)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    # Whole names: an L40 is no L4, an RTX A1000 no A100.
    card = next((card for card in PEAKS if re.search(rf"{card}\b", name)), None)
    return None if card is None else 1e12 * PEAKS[card].get(precision, PEAKS[card]["lower"])


def peak_memory_gb(device: torch.device) -> float:
    """The peak memory so far, of the GPU or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1e9 if sys.platform == "darwin" else 1e6)  # bytes on macOS, kB on Linux

"""How busy a run keeps its devices: operations of a batch, share of the peak (MFU), memory."""

import resource
import sys
from typing import Any

import torch

from mesm_train.data.batch import Batch
from mesm_train.data.mel import piece_counts_of
from mesm_train.models.baselines.make import AnyModel
from mesm_train.models.baselines.two_phase import TwoPhaseModel
from mesm_train.models.flops import dense_macs

# Dense peaks in 10^12 operations a second from the vendor's data sheets: bf16 and fp16, TF32, float32.
PEAKS = {
    "A100": {"lower": 312.0, "tf32": 156.0, "fp32": 19.5},
    "H100 PCIe": {"lower": 756.0, "tf32": 378.0, "fp32": 51.0},
    "H100": {"lower": 989.0, "tf32": 494.0, "fp32": 67.0},
    "H200": {"lower": 989.0, "tf32": 494.0, "fp32": 67.0},
    "L40S": {"lower": 362.0, "tf32": 183.0, "fp32": 91.6},
    "L4": {"lower": 121.0, "tf32": 60.0, "fp32": 30.3},
}


class Operations:
    """Counts the floating-point operations of training on a batch, as if every site were active.

    That is a multiply and an add for each MAC of flops.py, and twice the forward pass for the backward pass. For kind
    mesm it is what the dense model would need: the kept sites are not counted, because that would wait for the device.
    """

    def __init__(self, model: AnyModel) -> None:
        self._two_phase = model if isinstance(model, TwoPhaseModel) else None
        self._unknown = any(True for _ in model.encoder_parameters())
        self._settings = model.settings
        self._encoder: Any = None if model.text is None else model.text.encoder.config
        self._known: dict[tuple[int, int, int], float] = {}

    def of(self, batch: Batch) -> float:
        """Of one batch, whose counts lie on the CPU; 0: not known, of a pretrained speech or image encoder."""
        if self._unknown:
            return 0.0
        if self._two_phase is not None:
            rows = {m: each.counts.tolist() for m, each in batch.features.items()}
            sizes = ({m: count[number] for m, count in rows.items()} for number in range(len(batch.keys)))
            return sum(6.0 * sum(self._two_phase.macs(size).values()) for size in sizes)
        counts = (batch.face_counts, piece_counts_of(batch.sample_counts), batch.token_counts)
        return sum(self._utterance(*sizes) for sizes in zip(*(count.tolist() for count in counts), strict=True))

    def _utterance(self, faces: int, pieces: int, tokens: int) -> float:
        sizes = (faces, pieces, tokens)
        if sizes not in self._known:
            parts = dense_macs(self._settings, self._encoder, faces=faces, pieces=pieces, tokens=tokens)
            self._known[sizes] = 6.0 * sum(parts.values())
        return self._known[sizes]


def peak(device: torch.device, precision: str) -> float | None:
    """Operations a second of a device at best; None if that is not known (a CPU, another card)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    card = next((card for card in PEAKS if card in name), None)
    return None if card is None else 1e12 * PEAKS[card].get(precision, PEAKS[card]["lower"])


def peak_memory_gb(device: torch.device) -> float:
    """The most memory that was in use so far: of the card, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1e9 if sys.platform == "darwin" else 1e6)  # bytes on macOS, kB on Linux

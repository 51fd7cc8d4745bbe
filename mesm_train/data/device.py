"""Which of two ways a computation takes: the one for a CPU, or the one with few launches for a graphics card."""

import torch
from torch import Tensor


def on_card(device: torch.device) -> bool:
    """Whether each operator is a launch, and reading a value makes the host wait."""
    return device.type != "cpu"


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """A small tensor of the host on `device`, without waiting for what that computes."""
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)

"""Chooses between two implementations: for a CPU, or with few kernel launches for a GPU."""

import torch
from torch import Tensor


def is_accelerator(device: torch.device) -> bool:
    """Whether each operator launches a kernel, and reading a value blocks the host."""
    return device.type != "cpu"


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """Copy a small CPU tensor to `device` without blocking."""
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)

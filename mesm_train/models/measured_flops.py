"""Multiply-adds of a forward pass as torch counts them: for models with encoders of transformers, which differ."""

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mesm_train.data.batch import Batch


@torch.no_grad()
def measured_macs(model: nn.Module, batch: Batch) -> dict[str, int]:
    """Multiply-adds of `model` on `batch`, by part: text, sound, faces, the sequences and stacks of v and a.

    Products of matrices and convolutions are counted, padding too.
    """
    # The fused attention for a CPU is not counted by torch 2.13; composed of products, it is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch.to(next(model.parameters()).device))
    counts = {name: sum(by_operator.values()) // 2 for name, by_operator in counter.get_flop_counts().items()}
    root = type(model).__name__
    parts = {name.removeprefix(f"{root}."): count for name, count in counts.items() if name.startswith(f"{root}.")}
    children = {name for name, _ in model.named_children()} - {"stacks", "sequences"}
    nested = {f"{name}.{inner}" for name in ("stacks", "sequences") for inner in ("v", "a")}
    measured = {name: parts[name] for name in sorted(children | nested) if parts.get(name)}
    words = {"sound": "a.encoder", "faces": "v.encoder", "sequences": "sequence", "stacks": "stack"}
    return {_part(name, words): count for name, count in measured.items()}


def _part(name: str, words: dict[str, str]) -> str:
    """sequences.v -> v.sequence, as parts are named elsewhere."""
    head, _, modality = name.partition(".")
    return f"{modality}.{words[head]}" if modality else words.get(name, name)

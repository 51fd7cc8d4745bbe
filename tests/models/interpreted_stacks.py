"""Whole sparse stacks by Triton's functions in its interpreter, against whole grids in float64 (oracle.py).

    TRITON_INTERPRET=1 python interpreted_stacks.py

Ends with exit code 0 if vectors, choices, gradients and running statistics agree: what test_card.py shows on a card.
"""

import copy
from typing import Any
from unittest import mock

import torch
from oracle import oracle_stack
from test_card import TEXT, stack

from mesm_train.models import streams
from mesm_train.models.kernels.card_kernels import TritonKernels

PICTURES = 2


def main() -> None:
    """Check each way in which a choice learns, of single sites and of tiles."""
    torch.set_num_threads(1)
    for selection in ("gate", "straight"):
        for tiles in ({}, {"tile": 4}):
            check(selection, tiles)


def check(selection: str, tiles: dict[str, Any]) -> None:
    """With p = .6, in training."""
    own = stack("torch", selection, 0.6, **tiles).train()
    generator = torch.Generator().manual_seed(1)
    pictures, text = torch.randn(PICTURES, 3, 32, 32, generator=generator), torch.randn(PICTURES, TEXT)
    exact = copy.deepcopy(own).double()
    expected, choices, running = oracle_stack(exact, pictures.double(), text.double())
    towards = torch.randn(expected.shape, generator=generator)
    (expected * towards.double()).sum().backward()
    with mock.patch.object(streams, "kernels", return_value=TritonKernels()):
        vectors, selections = own(pictures, text)
    (vectors * towards).sum().backward()
    case = (selection, tiles)
    for one, other in zip(selections, choices, strict=True):
        assert torch.equal(one.kept, other.kept), case
        assert 0 < one.kept.float().mean() < 1, case
    assert (vectors.double() - expected).norm() <= 1e-4 * expected.norm(), case
    for (name, mine), theirs in zip(own.named_parameters(), exact.parameters(), strict=True):
        if theirs.grad is not None:
            assert mine.grad is not None, (case, name)
            gap = (mine.grad.double() - theirs.grad).norm()
            assert gap <= 1e-3 * theirs.grad.norm() + 1e-5, (case, name, gap / theirs.grad.norm())
    buffers = [value for name, value in own.named_buffers() if "running" in name]
    for value, goal in zip(buffers, running, strict=True):
        torch.testing.assert_close(value.double(), goal, rtol=1e-4, atol=1e-5)
    print(*case)


if __name__ == "__main__":
    main()

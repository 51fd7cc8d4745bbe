"""The sparse stack on a graphics card, float32, against whole grids in float64 on the CPU (oracle.py).

Skipped without a card. MESM_TEST_DEVICE names another device: benchmarks/gpu/run.py tests itself on a CPU with that.
"""

import copy
import os
from typing import Any

import pytest
import torch
from oracle import oracle_stack
from torch import nn

from mesm_train.config.model_settings import ModelSettings, SparseSettings
from mesm_train.data.device import configure_backends
from mesm_train.models.importance import Importance
from mesm_train.models.kernels import EngineName, functions
from mesm_train.models.norm import BatchNorm
from mesm_train.models.sparse import SparseStack
from mesm_train.models.tiles import TiledStack

DEVICE = torch.device(os.environ.get("MESM_TEST_DEVICE", "cuda"))
TEXT = 16

pytestmark = pytest.mark.skipif(DEVICE.type == "cuda" and not torch.cuda.is_available(), reason="there is no card")


def stack(engine: EngineName, selection: str, p: float, **tiles: Any) -> SparseStack:
    """Widths that fill tiles of tensor cores and one that does not."""
    torch.manual_seed(0)
    sparse = SparseSettings(p=p, selection=selection, engine=engine, **{"tile": 1, "anneal_epochs": 0, **tiles})  # type: ignore[arg-type]
    settings = ModelSettings(
        kind="mesm", channels=(16, 32, 48), hidden=32, dim=8, heads=2, stem_blocks=1, sparse=sparse
    )
    kind_of_stack = TiledStack if tiles else SparseStack
    module_stack = kind_of_stack(settings, 3, (32, 32), TEXT, "the stack")
    for module in module_stack.modules():
        if isinstance(module, BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if tiles and isinstance(module, Importance):
            nn.init.uniform_(module.value, 0.5, 2)  # so that rounding tips no tile
    return module_stack


@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("dense", [True, False])  # few pictures as whole grids, or by the engine as many are
@pytest.mark.parametrize("selection", ["published", "gate", "straight"])
@pytest.mark.parametrize("tiles", [{}, {"tile": 4}], ids=["sites", "tiles"])
@pytest.mark.parametrize(("p", "count", "training"), [(0.6, 3, True), (0.9, 2, False), (1.0, 2, True), (0.5, 24, True)])
def test_a_stack_on_a_card_is_the_masked_grids_forward_and_every_gradient(
    engine: EngineName,
    dense: bool,
    selection: str,
    tiles: dict[str, Any],
    p: float,
    count: int,
    training: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Vectors to a thousandth of their size, gradients, running statistics, and the choice of sites."""
    if not dense:
        monkeypatch.setattr(functions, "DENSE_OPERATIONS", 0)
    configure_backends(DEVICE, "fp32")
    own = stack(engine, selection, p, **tiles).train(training)
    generator = torch.Generator().manual_seed(1)
    pictures, text = torch.randn(count, 3, 32, 32, generator=generator), torch.randn(count, TEXT, generator=generator)
    exact = copy.deepcopy(own).double()
    expected, choices, running = oracle_stack(exact, pictures.double(), text.double())
    towards = torch.randn(expected.shape, generator=generator)
    (expected * towards.double()).sum().backward()
    own = own.to(DEVICE)
    vectors, selections = own(pictures.to(DEVICE), text.to(DEVICE))
    (vectors * towards.to(DEVICE)).sum().backward()
    different = [int((one.kept.cpu() != other.kept).sum()) for one, other in zip(selections, choices, strict=True)]
    if any(different):  # float32 may tip a site whose weight reaches p by less than its rounding
        assert max(different) <= count // 20 * tiles.get("tile", 1) ** 2
        return
    assert (vectors.double().cpu() - expected).norm() <= 1e-3 * expected.norm()
    for (name, mine), theirs in zip(own.named_parameters(), exact.parameters(), strict=True):
        if theirs.grad is not None:
            assert mine.grad is not None, name
            # A ReLU whose input rounds to the other side of 0 was seen to move gradients by 2 %.
            gap = (mine.grad.double().cpu() - theirs.grad).norm()
            assert gap <= 0.05 * theirs.grad.norm() + 1e-5 * len(pictures), name
    if training:
        buffers = [value for name, value in own.named_buffers() if "running" in name]
        for value, goal in zip(buffers, running, strict=True):
            torch.testing.assert_close(value.double().cpu(), goal, rtol=1e-3, atol=1e-4)

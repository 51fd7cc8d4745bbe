"""torch.compile over a sparse stack: in pieces, with the same results. Slow: up to a minute an engine."""

import pytest
import torch

from mesm_train.config.model_settings import ModelSettings, SparseSettings
from mesm_train.models.sparse import SparseStack


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # about what it does not compile
@pytest.mark.parametrize("engine", ["cpp", "torch"])
def test_a_compiled_stack_gives_the_same_vectors_and_gradients(engine: str) -> None:
    torch.manual_seed(0)
    sparse = SparseSettings(p=0.7, selection="gate", tile=1, anneal_epochs=0, engine=engine)  # type: ignore[arg-type]
    settings = ModelSettings(kind="mesm", channels=(16, 32), hidden=16, dim=8, heads=2, stem_blocks=1, sparse=sparse)
    stack = SparseStack(settings, 3, (48, 48), 5, "the stack").train()
    pictures, text = torch.randn(4, 3, 48, 48), torch.randn(4, 5)
    results = []
    for run in (stack, torch.compile(stack)):
        stack.zero_grad()
        vectors, _ = run(pictures, text)
        vectors.square().sum().backward()
        results.append([vectors.detach(), *(p.grad.clone() for p in stack.parameters() if p.grad is not None)])
    assert len(results[0]) > 10
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)

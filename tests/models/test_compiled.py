"""torch.compile of the transformers' training: what it computes, how many launches it takes, and where it fails."""

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_launches import batch, model
from torch import Tensor, nn

from mesm_data.errors import InputError
from mesm_train.config.model_settings import ModelSettings
from mesm_train.config.settings import OptimConfig, RunConfig
from mesm_train.models.fe2e_mesm import Model
from mesm_train.models.sequence import transform
from mesm_train.models.text import hidden_states


def without_dropout(model: Model) -> Model:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


@pytest.mark.slow
def test_compiled_transformers_train_as_others_and_are_evaluated_without() -> None:
    from torch._dynamo.utils import counters

    eager = without_dropout(model("fe2e")).double()
    compiled = copy.deepcopy(eager)
    compiled.compile_transformers()
    averaged = copy.deepcopy(compiled)
    for number in (8, 4):
        logits = [each.train()(batch(number)) for each in (eager, compiled)]
        torch.testing.assert_close(logits[1], logits[0])
        for each in logits:
            each.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in eager.named_parameters()}
    for name, parameter in compiled.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], msg=lambda text, n=name: f"{n}: {text}")
    with torch.no_grad():
        before = counters["stats"]["unique_graphs"]
        torch.testing.assert_close(compiled.eval()(batch(2)), eager.eval()(batch(2)))
        assert counters["stats"]["unique_graphs"] == before > 0
        for parameter in averaged.parameters():
            parameter.zero_()
        assert averaged.train()(batch()).count_nonzero() == 0


@pytest.mark.slow
def test_compiled_transformers_take_half_of_the_launches() -> None:
    """Calls in the code that torch generates for a CPU; 721 and 338 launches without, as test_launches.py counts."""
    fe2e = model("fe2e").train()
    tokens, mask = torch.randint(4, 50, (8, 12)), torch.ones(8, 1, 12, 12, dtype=torch.bool)
    padding = torch.arange(5) >= torch.tensor([5, 3] * 4)[:, None]
    assert fe2e.text is not None
    assert calls(hidden_states, fe2e.text.encoder, tokens, mask) < 360
    branch: Any = fe2e.sequences["v"]
    assert calls(transform, branch.encoder, torch.randn(8, 5, 8, requires_grad=True), padding) < 170


def calls(function: Callable[..., Tensor], *arguments: Any) -> int:
    from torch._inductor.utils import run_and_get_code

    compiled = torch.compile(function, dynamic=True)
    _, codes = run_and_get_code(lambda: compiled(*arguments).sum().backward())
    forward, backward = (code[code.index("def call") :] for code in codes)
    return len(re.findall(r"(cpp_fused\w*|extern_kernels\.\w+|torch\.ops\.[\w.]+)\(", forward + backward))


@pytest.mark.slow  # 10 s, for torch to find no compiler
def test_a_machine_without_a_compiler_is_told_so() -> None:
    program = "import torch; from mesm_train.data.device import check_compiler; check_compiler(torch.device('cpu'))"
    done = subprocess.run([sys.executable, "-c", program], env={"CXX": "none"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "InputError: optim.compile: torch.compile does not work here" in done.stderr
    assert done.stderr.strip().endswith("optim.compile=false does without")


def test_two_phase_systems_are_not_compiled() -> None:
    with pytest.raises(InputError, match=r"optim\.compile is True; it must be false with model\.kind lf-lstm"):
        RunConfig(name="x", model=ModelSettings(kind="lf-lstm"), optim=OptimConfig(compile=True))

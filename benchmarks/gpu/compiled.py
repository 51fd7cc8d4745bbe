"""torch.compile of the text encoder and of a sequence branch, alone and with CUDA graphs, beside the same without.

Milliseconds and launches.
"""

import json
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
from options import Options, Result
from parity import VOCABULARY, model
from torch import Tensor, nn

from mesm_train.data.device import configure_backends
from mesm_train.models.sequence import transform
from mesm_train.models.text import hidden_states
from mesm_train.training.optimizer import autocast

LENGTHS = (23, 31, 40, 28, 35)  # of the longest utterance: each batch has another
ROUNDS = 4  # over the lengths; the first two compile and are not measured
Inputs = tuple[Tensor, Tensor]
Function = Callable[[nn.Module, Tensor, Tensor], Tensor]


def compiled(options: Options) -> Result:
    """Forward and backward in bfloat16 with batches of several lengths, whose shapes are compiled as dynamic."""
    device = torch.device(options.device)
    configure_backends(device, "bf16")
    fe2e = model("fe2e", 1.0, quick=options.quick).to(device)
    utterances = 4 if options.quick else 64
    assert fe2e.text is not None
    text, sequence = fe2e.text.encoder, fe2e.sequences["v"].encoder
    cases = (
        ("text encoder", text, hidden_states, [tokens(utterances, length, device) for length in LENGTHS]),
        ("sequence branch", sequence, transform,
         [items(utterances, length // 4, fe2e.settings.dim, device) for length in LENGTHS]),
    )  # fmt: skip
    result: Result = {"passed": True, "rows": []}
    for name, module, function, batches in cases:
        result["rows"].append({"module": name})
        for measurements in compare(module, function, batches, device):
            result["rows"][-1] |= measurements
            result["passed"] &= all(value < 0.1 for key, value in measurements.items() if key.endswith("difference"))
            (options.work / "compiled.partial.json").write_text(json.dumps(result))
    return result


def tokens(utterances: int, length: int, device: torch.device) -> Inputs:
    """Tokens int64 (N, L) and the mask (N, 1, L, L) as TextBranch makes it; every other row is two thirds as long."""
    lengths = torch.tensor([length, 2 * length // 3] * (utterances // 2))
    mask = (torch.arange(length) < lengths[:, None])[:, None, None].expand(-1, 1, length, -1)
    return torch.randint(5, VOCABULARY, (utterances, length)).to(device), mask.to(device)


def items(utterances: int, length: int, dim: int, device: torch.device) -> Inputs:
    """Vectors (N, L, dim) and the mask of padding (N, L) as SequenceBranch makes it."""
    lengths = torch.tensor([length, 2 * length // 3] * (utterances // 2))
    return torch.randn(utterances, length, dim).to(device), (torch.arange(length) >= lengths[:, None]).to(device)


def compare(
    module: nn.Module, function: Function, batches: list[Inputs], device: torch.device
) -> Iterator[Result]:  # fmt: skip
    """Each way on the same batches; a difference is the root mean square one of the outputs over their own."""
    module.eval()  # no dropout, so that the outputs can be compared
    ways: dict[str, Function] = {
        "eager": function,
        "compiled": torch.compile(function, dynamic=True),
        "graphs": torch.compile(function, dynamic=True, mode="reduce-overhead"),
    }
    outputs, milliseconds = dict[str, Tensor](), dict[str, float]()
    for way, run in ways.items():
        began = time.monotonic()
        outputs[way] = step(module, run, batches[0], device)
        first = time.monotonic() - began
        seconds = []
        for number in range(ROUNDS):
            for inputs in batches:
                began = time.monotonic()
                step(module, run, inputs, device)
                if number > 1:
                    seconds.append(time.monotonic() - began)
        milliseconds[way] = 1e3 * median(seconds)
        difference = (outputs["eager"] - outputs[way]).square().mean() / outputs["eager"].square().mean()
        yield {
            f"{way}_first_s": first, f"{way}_ms": milliseconds[way],
            f"{way}_ratio": milliseconds[way] / milliseconds["eager"], f"{way}_difference": float(difference.sqrt()),
            f"{way}_launches": launches(module, run, batches[0], device),
        }  # fmt: skip


def step(module: nn.Module, run: Function, inputs: Inputs, device: torch.device) -> Tensor:
    """Forward and backward of the mean of squares; the output in float32."""
    with autocast(device, "bf16"):
        output = run(module, *inputs)
    output.float().square().mean().backward()
    module.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return output.detach().to(torch.float32, copy=True)  # a graph writes to the same place again


def launches(module: nn.Module, run: Function, inputs: Inputs, device: torch.device) -> int:
    """Kernels and copies of a step on the card; 0 on a CPU."""
    with torch.profiler.profile() as profile:
        step(module, run, inputs, device)
    return sum(event.device_type == torch.profiler.DeviceType.CUDA for event in profile.events() or ())

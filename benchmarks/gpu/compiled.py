"""torch.compile of the text encoder and of a sequence branch, beside the same without: milliseconds and launches."""

import time
from collections.abc import Callable
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
    rows = [
        compare("text encoder", text, hidden_states,
                [tokens(utterances, length, device) for length in LENGTHS], device),
        compare("sequence branch", sequence, transform,
                [items(utterances, length // 4, fe2e.settings.dim, device) for length in LENGTHS], device),
    ]  # fmt: skip
    return {"passed": all(row["difference"] < 0.1 for row in rows), "rows": rows}


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
    name: str, module: nn.Module, function: Function, batches: list[Inputs], device: torch.device
) -> Result:  # fmt: skip
    """Both on the same batches; the difference is the root mean square one of the outputs over their own."""
    module.eval()  # no dropout, so that the outputs can be compared
    ways: dict[str, Function] = {"eager": function, "compiled": torch.compile(function, dynamic=True)}
    row: Result = {"module": name}
    outputs = {}
    for way, run in ways.items():
        began = time.monotonic()
        outputs[way] = step(module, run, batches[0], device)
        row[f"{way}_first_s"] = time.monotonic() - began
        seconds = []
        for number in range(ROUNDS):
            for inputs in batches:
                began = time.monotonic()
                step(module, run, inputs, device)
                if number > 1:
                    seconds.append(time.monotonic() - began)
        row[f"{way}_ms"] = 1e3 * median(seconds)
        row[f"{way}_launches"] = launches(module, run, batches[0], device)
    difference = (outputs["eager"] - outputs["compiled"]).square().mean() / outputs["eager"].square().mean()
    return {**row, "ratio": row["compiled_ms"] / row["eager_ms"], "difference": float(difference.sqrt())}


def step(module: nn.Module, run: Function, inputs: Inputs, device: torch.device) -> Tensor:
    """Forward and backward of the mean of squares; the output in float32."""
    with autocast(device, "bf16"):
        output = run(module, *inputs)
    output.float().square().mean().backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return output.detach().float()


def launches(module: nn.Module, run: Function, inputs: Inputs, device: torch.device) -> int:
    """Kernels and copies of a step on the card; 0 on a CPU."""
    with torch.profiler.profile() as profile:
        step(module, run, inputs, device)
    return sum(event.device_type == torch.profiler.DeviceType.CUDA for event in profile.events() or ())

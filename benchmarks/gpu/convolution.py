"""One submanifold convolution of a sparse block and its gradients, beside the dense one of the card's library."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from options import Options, Result
from torch import Tensor
from torch.nn import functional

from mesm_train.data.device import configure_backends
from mesm_train.models.kernels import Kernels, Table, kernels

FACES = 9  # of an utterance
# Channels before and after, and the side of the grid: of the published streams of faces.
LAYERS = ((64, 128, 24), (128, 128, 24), (256, 256, 12), (512, 512, 6))
SHARES = (0.76, 0.44)  # of active sites: about those of p = .8 and .5 with fresh attention
MASKS = (True, False, False), (False, True, False)  # convolution_backward: of the input, of the weight
Function = Callable[[], object]


def convolution(options: Options) -> Result:
    """Milliseconds in bfloat16 of 64 utterances: forward, the gradients of the input and of the weight."""
    device = torch.device(options.device)
    configure_backends(device, "bf16")
    ops = kernels("auto", device)
    layers, pictures = (LAYERS[-1:], 2) if options.quick else (LAYERS, 64 * FACES)
    rows = [row for layer in layers for row in measured(*layer, pictures, ops, device)]
    return {"passed": ops.name == "triton" or options.quick, "engine": ops.name, "rows": rows}


def measured(cin: int, cout: int, side: int, pictures: int, ops: Kernels, device: torch.device) -> list[Result]:
    """The dense layer, then the sparse one with random single sites and with random squares of 4x4 sites, or 2x2."""
    torch.manual_seed(0)
    to: dict[str, Any] = {"device": device, "dtype": torch.bfloat16 if device.type == "cuda" else torch.float32}
    weight = torch.randn(9, cin, cout, **to) * (9 * cin) ** -0.5
    dense_weight = weight.view(3, 3, cin, cout).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    x, dy = (torch.randn(pictures, side, side, c, **to).permute(0, 3, 1, 2) for c in (cin, cout))
    layer = f"{cin} to {cout}, {side}x{side}"
    gradients = [backward(dy, x, dense_weight, mask) for mask in MASKS]
    rows = [{"layer": layer, "sites": "all, dense"}]
    rows[0] |= times(lambda: functional.conv2d(x, dense_weight, padding=1), *gradients, device)
    square = 4 if side % 4 == 0 else 2
    for tile in (1, square):
        for share in SHARES:
            table, count = random_table(pictures, side, share, tile, ops, device)
            sites = f"{count / (pictures * side * side):.2f} in {tile}x{tile}"
            inputs, outputs = (torch.randn(count, c, **to) for c in (cin, cout))
            rows.append({"layer": layer, "sites": sites})
            rows[-1] |= times(*sparse(inputs, weight, outputs, table, ops), device)
    return rows


def backward(dy: Tensor, x: Tensor, weight: Tensor, mask: tuple[bool, bool, bool]) -> Function:
    """One of the gradients of the dense convolution."""
    return lambda: torch.ops.aten.convolution_backward(
        dy, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask
    )


def sparse(x: Tensor, weight: Tensor, dy: Tensor, table: Table, ops: Kernels) -> tuple[Function, Function, Function]:
    """The sparse one and its gradients."""
    return (
        lambda: ops.conv(x, weight, table),
        lambda: ops.conv(dy, weight, table, mirror=True),
        lambda: ops.conv_weight(x, dy, table),
    )


def random_table(
    pictures: int, side: int, share: float, tile: int, ops: Kernels, device: torch.device
) -> tuple[Table, int]:
    """Random squares of `tile` x `tile` sites, and how many sites these are."""
    squares = torch.rand(pictures, side // tile, side // tile) < share
    kept = squares.repeat_interleave(tile, 1).repeat_interleave(tile, 2)
    pooled = kept.view(pictures, side // 2, 2, side // 2, 2).any(4).any(2)
    return ops.tables(kept.to(device), int(kept.sum()), int(pooled.sum())), int(kept.sum())


def times(forward: Function, of_input: Function, of_weight: Function, device: torch.device) -> dict[str, float]:
    """Milliseconds of each."""
    functions = {"forward": forward, "of_input": of_input, "of_weight": of_weight}
    return {name: milliseconds(function, device) for name, function in functions.items()}


def milliseconds(function: Function, device: torch.device) -> float:
    """The median; on a card of replays of a graph, in which the host has no part."""
    function()  # compiles, and makes plans
    if device.type == "cuda":
        from triton.testing import do_bench_cudagraph

        card: float = do_bench_cudagraph(function, rep=20, return_mode="median")
        return card
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return 1e3 * median(seconds)

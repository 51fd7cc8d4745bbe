"""Starts Triton's functions with little work for the host.

Triton itself looks at every argument of every start, to compile anew for a size of 1 or a multiple of 16. The functions
here are compiled for dtypes and constants only, so those are all that a start has to look at: on an H200's machine the
host needs 80 instead of 113 µs for a batch norm's forward pass of three functions (PyTorch's batch norm: 28).
"""

from collections.abc import Hashable
from typing import Any

import torch
import triton
from torch import Tensor

ALIGNMENT = 16  # bytes; Triton compiles other loads for addresses that are not multiples of it
_compiled: dict[tuple[Hashable, ...], Any] = {}  # what Triton has compiled in this process
# Up to Triton 3.2 (of torch 2.6) what is compiled takes no constants; later it is given them and does not use them.
TAKES_CONSTANTS = tuple(map(int, triton.__version__.split(".")[:2])) > (3, 2)


def start(
    function: Any, grid: tuple[int, ...], tensors: tuple[Tensor, ...], numbers: tuple[float, ...],
    constants: tuple[int | str, ...], *, warps: int = 4, stages: int = 3,
) -> None:  # fmt: skip
    """Start a Triton function on the current stream.

    Args:
        function: What @triton.jit made, with the parameters in the order of the arguments here. Integers among the
            numbers must be do_not_specialize.
        grid: The number of programs, of one or two dimensions.
        tensors: Of one device, which is the current one.
        numbers: Integers (below 2**31, or always beyond) and floats.
        constants: The values of parameters that are tl.constexpr.
        warps: Of a program.
        stages: Of its software pipeline.
    """
    if isinstance(function, triton.JITFunction):
        pointers = [tensor.data_ptr() for tensor in tensors]
        aligned = not any(pointer % ALIGNMENT for pointer in pointers)
        key = (function, torch.cuda.current_device(), *[t.dtype for t in tensors], *constants, warps, stages)
        if aligned and (compiled := _compiled.get(key)) is not None:
            # Of a number Triton does not ask the driver whether it is the address of something on the card.
            compiled[(*grid, 1, 1)[:3]](*pointers, *numbers, *(constants if TAKES_CONSTANTS else ()))
            return
    compiled = function[grid](*tensors, *numbers, *constants, num_warps=warps, num_stages=stages)
    if isinstance(function, triton.JITFunction) and aligned:  # not Triton's interpreter
        _compiled[key] = compiled

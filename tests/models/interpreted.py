"""Computes convolutions with Triton's interpreter. Its import decides what a function is: a process of its own.

    TRITON_INTERPRET=1 python interpreted.py CASES RESULTS

CASES: a list of (mask bool (B, H, W), x (n, Cin), weight (9, Cin, Cout), dy (n, Cout)); RESULTS: for each of them the
output, the gradients of x and the weight, and the number of (tile, tap) pairs that were computed.
"""

import sys
from typing import Any

import numpy as np
import torch
import triton
from triton.runtime import interpreter

from mesm_train.models.kernels import card_kernels as engine
from mesm_train.models.kernels.functions import conv


def widen(handle: Any) -> Any:
    """The interpreter keeps bfloat16 as its 16 bits, and would multiply these as integers (3.9)."""
    if handle.dtype.scalar != triton.language.bfloat16:
        return handle
    values = (handle.data.astype(np.uint32) << 16).view(np.float32)
    return interpreter.TensorHandle(values, triton.language.float32)


def main() -> None:
    """Compute."""
    create_dot = interpreter.InterpreterBuilder.create_dot
    interpreter.InterpreterBuilder.create_dot = lambda self, a, b, *rest: create_dot(self, widen(a), widen(b), *rest)
    torch.set_num_threads(1)
    ops, results = engine.TritonKernels(), []
    for mask, x, weight, dy in torch.load(sys.argv[1]):
        batch, height, width = mask.shape
        pooled = int(mask.view(batch, height // 2, 2, width // 2, 2).any(4).any(2).sum())
        table = ops.tables(mask, len(x), pooled)
        leaves = x.requires_grad_(), weight.requires_grad_()
        y = conv(*leaves, table, ops)
        dx, dw = torch.autograd.grad(y, leaves, dy)
        computed = sum(taps.bit_count() for taps in table.plans["sorted"].masks.tolist()) if len(x) else 0
        results.append((y.detach(), dx, dw, computed))
    torch.save(results, sys.argv[2])


if __name__ == "__main__":
    main()

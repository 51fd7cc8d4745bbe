"""The arithmetic on rows of active sites: in PyTorch, which runs anywhere, in C++ for a CPU, in Triton for a CUDA card.

A row is the C features of one site. `Table` says which rows are neighbours; a convolution of sparse blocks has a
weight (9, Cin, Cout), tap by tap in the order (y, x), as SparseConvNet stores it: y[r] = sum over k of
x[near[r, k]] @ weight[k] over the neighbours that are active.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from mesm_data.errors import InputError, first_line
from mesm_train.data import device as accelerator
from mesm_train.models.kernels.choice import Choice

EngineName = Literal["auto", "torch", "cpp", "triton"]
# A window of 4x4 sites with at least so many pairs of neighbours is faster by Winograd's algorithm: measured for 64 to
# 512 channels, in C++ and in PyTorch.
MIN_PAIRS = 56
CAPABILITY = (8, 0)  # compute capability from which tensor cores multiply bfloat16 and TF32


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """The active sites of B pictures of H x W, n of them: the rows of a grid."""

    active: Tensor  # bool (B, H, W)
    places: Tensor  # int64 (n,): places in the flattened mask, ascending
    other_places: Tensor | None = None  # int64 (B * H * W - n,): those of the other sites, where they are known
    rank: Tensor | None = None  # int32 (B, H, W): the row of each active site, where it is known

    @property
    def all_active(self) -> bool:
        """Whether no site is left out."""
        return len(self.places) == self.active.numel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The active sites of B pictures of H x W, n of them, and of the m pooled ones; shared by all layers of a block."""

    shape: tuple[int, int, int]  # B, H, W
    sites: Tensor  # int64 (n,): places in the flattened mask, ascending
    near: Tensor  # int32 (n, 9): the row of each 3x3 neighbour, itself at 4; -1 where it is not active
    pool: Tensor  # int32 (m, 4): the rows of the 2x2 children of each pooled site; -1 where not active
    pooled: Sites  # the 2x2 windows with an active site, as sites of the pooled grids
    sources: Tensor | None = None  # int64 (n,): the rows of the sites among those they were chosen from, if known
    plans: dict[str, Any] = field(default_factory=dict)  # what kernels derive from it once


Finish = Callable[[Tensor], tuple[Tensor, Tensor, Tensor] | None]


class Kernels(Protocol):
    """Raw operations without autograd. All tensors are contiguous and of one dtype and device, but for indices."""

    name: str
    batch_invariant: bool  # sites with the same inputs get the same bits, wherever they are and whatever is beside them
    dense_from: int  # the least Cin * Cout for which its convolution is faster than torch's where all sites are active

    def choose(self, scores: Tensor, active: Tensor, p: float, tile: int = 1) -> Choice:
        """See choice.py. The weights have the gradient of the scores."""

    def tables(
        self, kept: Tensor, count: int, pooled: int, *, ends: Tensor | None = None, rank: Tensor | None = None
    ) -> Table:
        """Of a mask bool (B, H, W), H and W even, with `count` sites of which `pooled` are left by pooling.

        `ends` is Choice's, if it is known, and `rank` that of the Sites from which they were chosen.
        """

    def as_batch_invariant(self) -> "Kernels | None":
        """The kernels of the same name that are `batch_invariant`, if there are any."""

    def conv(
        self, x: Tensor, weight: Tensor, table: Table, *, bias: Tensor | None = None, mirror: bool = False
    ) -> Tensor:
        """(n, Cin) to (n, Cout). `mirror`: the transposed convolution, (n, Cout) to (n, Cin): the input's gradient."""

    def conv_weight(self, x: Tensor, dy: Tensor, table: Table) -> Tensor:
        """The gradient of the weight, (9, Cin, Cout)."""

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """(n, K) @ (K, C), `batch_invariant` if the kernels are."""

    def moments(self, x: Tensor) -> Tensor:
        """float64 (2, C): the sums of x (n, C) and of its squares."""

    def normalise(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """relu(x * scale + shift)."""

    def normalise_pool(self, x: Tensor, scale: Tensor, shift: Tensor, pool: Tensor) -> tuple[Tensor, Tensor]:
        """The maximum of that over each row of `pool`, (m, C), and uint8 which child had it first (255: it is 0)."""

    def norm_backward(
        self, dy: Tensor, y: Tensor, x: Tensor, pool: Tensor | None, mean: Tensor, finish: "Finish"
    ) -> tuple[Tensor, Tensor | None]:
        """The sums over the rows of g and of g * (x - mean), float64 (2, C), and the gradient of x.

        g is dy past the ReLU and the pooling. The gradient is scale * g + slope * (x - mean) + shift for the three (C,)
        that `finish(sums)` returns, or None if it returns None. `y` is what `normalise` returned, or with `pool` the
        second result of `normalise_pool`.
        """


def kernels(engine: EngineName, device: torch.device) -> Kernels:
    """The kernels of an engine on `device`: C++ on a CPU, Triton on a card; PyTorch if required or as the fallback.

    The fallback writes one line to stderr.

    Raises:
        InputError: the engine of this kind of device is required by its name, and it is not available.
    """
    from mesm_train.models.kernels.pure import PureKernels

    if engine == "torch":
        return PureKernels()
    if accelerator.is_accelerator(device):
        return _triton(device, required=engine == "triton")
    return _native(required=engine == "cpp")


@cache
def _triton(device: torch.device, *, required: bool) -> Kernels:
    from mesm_train.models.kernels.pure import PureKernels

    reason = _why_not_triton(device)
    if reason is None:
        from mesm_train.models.kernels.card_kernels import TritonKernels

        return TritonKernels()
    if required:
        raise InputError(f"model.sparse.engine is 'triton': {reason}; engine auto falls back to PyTorch")
    if device.type == "cuda":
        print(f"sparse convolutions run in PyTorch, which takes longer than in Triton: {reason}", file=sys.stderr)
    return PureKernels()


def _why_not_triton(device: torch.device) -> str | None:
    """None if it can be had."""
    if device.type != "cuda":
        return f"its kernels are for CUDA devices, and this one is {device.type}"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed (pip install 'mesm[triton]')"
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        return f"its kernels need compute capability 8.0, and this card has {capability[0]}.{capability[1]}"
    try:
        from mesm_train.models.kernels.card_kernels import try_out

        try_out(device)
    except Exception as error:  # of many classes: no compiler, no headers of Python, a card that it does not know
        return f"Triton does not work here ({first_line(error)}). It needs a C compiler and the headers of Python"
    return None


@cache
def _native(*, required: bool) -> Kernels:
    from mesm_train.models.kernels.compiler import BuildError
    from mesm_train.models.kernels.native import NativeKernels
    from mesm_train.models.kernels.pure import PureKernels

    try:
        return NativeKernels()
    except BuildError as error:
        if required:
            raise InputError(f"model.sparse.engine is 'cpp': {error}; engine auto falls back to PyTorch") from error
        print(f"convolutions run in PyTorch, which can take twice as long as in C++: {error}", file=sys.stderr)
        return PureKernels()

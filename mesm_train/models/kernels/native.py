"""The kernels in C++ (the *.cpp beside this), called with pointers."""

import ctypes
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mesm_train.models import kernels
from mesm_train.models.kernels import Finish, Sites, Table
from mesm_train.models.kernels.build import library
from mesm_train.models.kernels.choice import Choice, choose

LINE = 64  # bytes of a line of the cache, and of the longest vectors
SUFFIX = {torch.float32: "f32", torch.float64: "f64"}


class NativeKernels:
    """On a CPU, in float32 or float64, with as many threads as torch uses."""

    name = "cpp"
    batch_invariant = False
    # With fewer windows, transforming a weight costs more than it saves: 24 windows of 100 pairs take the time of plain
    # sums, 48 take .7 to .9 of it.
    min_windows = 32
    dense_from = 0

    def __init__(self, compiled: ctypes.CDLL | None = None) -> None:
        """`compiled`: another library than this machine's. Raises BuildError if there is none, nor a compiler."""
        self._library = compiled or library()

    def as_batch_invariant(self) -> "NativeKernels":
        """See Kernels: they sum plainly everywhere."""
        copied = copy(self)
        copied.batch_invariant = True
        return copied

    def choose(self, scores: Tensor, active: Tensor, p: float, tile: int = 1) -> Choice:
        """See Kernels."""
        return choose(scores, active, p, tile)

    def tables(
        self, kept: Tensor, count: int, pooled: int, *, ends: Tensor | None = None, rank: Tensor | None = None
    ) -> Table:
        """See Kernels."""
        batch, height, width = kept.shape
        sites = torch.empty(count, dtype=torch.int64)
        near = torch.empty(count, 9, dtype=torch.int32)
        pool = torch.empty(pooled, 4, dtype=torch.int32)
        rank = torch.empty(kept.numel(), dtype=torch.int32)
        windows = torch.empty(batch, height // 2, width // 2, dtype=torch.bool)
        places = torch.empty(pooled, dtype=torch.int64)
        counts = torch.empty(2, dtype=torch.int64)
        self._call(
            "mesm_tables", kept.contiguous(), (batch,), height, width, rank, sites, near, pool, windows, places, counts
        )
        assert counts.tolist() == [count, pooled]
        return Table(
            shape=(batch, height, width), sites=sites, near=near, pool=pool,
            pooled=Sites(active=windows, places=places), plans={"rank": rank},
        )  # fmt: skip

    def conv(
        self, x: Tensor, weight: Tensor, table: Table, *, bias: Tensor | None = None, mirror: bool = False
    ) -> Tensor:
        """See Kernels."""
        taps, cin, cout = weight.shape
        if mirror:
            cin, cout = cout, cin
        y = x.new_empty(len(x), cout)
        windows, alone = self._windows(table, x, cin, cout)
        if len(windows):
            wide_x, wide_weight = full_lines(x), full_lines(weight, 2)
            wide_bias = None if bias is None else full_lines(bias)
            sizes = wide_weight.shape[:0:-1] if mirror else wide_weight.shape[1:]
            wide_y = y if sizes[1] == cout else x.new_empty(len(x), sizes[1])
            self._run("winograd", wide_x, wide_weight, wide_bias, windows, wide_y, (len(windows),), *sizes, int(mirror))
            if wide_y is not y:
                y.copy_(wide_y[:, :cout])
        if rows := len(x) if alone is None else len(alone):
            self._run("conv", x, weight, bias, table.near, alone, y, (rows,), taps, cin, cout, int(mirror))
        return y

    def conv_weight(self, x: Tensor, dy: Tensor, table: Table) -> Tensor:
        """See Kernels."""
        dw = x.new_zeros(9, x.shape[1], dy.shape[1])
        windows, alone = self._windows(table, x, *dw.shape[1:])
        if len(windows):
            wide_x, wide_dy, wide_dw = full_lines(x), full_lines(dy), full_lines(dw, 2)
            self._run("winograd_weight", wide_x, wide_dy, windows, wide_dw, (len(windows),), *wide_dw.shape[1:])
            if wide_dw is not dw:
                dw.copy_(wide_dw[:, : x.shape[1], : dy.shape[1]])
        if rows := len(x) if alone is None else len(alone):
            self._run("conv_weight", x, dy, table.near, alone, dw, (rows,), *dw.shape)
        return dw

    def _windows(self, table: Table, x: Tensor, cin: int, cout: int) -> tuple[Tensor, Tensor | None]:
        """The windows of 4x4 sites that Winograd's way is for, int32 (w, 36), and the rows in none (None: all)."""
        if self.batch_invariant or max(cin, cout) * x.element_size() < LINE:
            return table.near.new_empty(0, 36), None
        if "windows" not in table.plans:
            batch, height, width = table.shape
            windows = torch.empty(batch * -(-height // 4) * -(-width // 4), 36, dtype=torch.int32)
            alone = torch.empty(len(table.sites), dtype=torch.int32)
            counts = torch.empty(2, dtype=torch.int64)
            self._call(
                "mesm_windows", table.plans["rank"], table.near, table.sites, (len(alone),), (batch,), height, width,
                kernels.MIN_PAIRS, windows, alone, counts,
            )  # fmt: skip
            chosen, others = counts.tolist()
            few = chosen < self.min_windows
            table.plans["windows"] = (windows[:0], None) if few else (windows[:chosen], alone[:others])
        plan: tuple[Tensor, Tensor | None] = table.plans["windows"]
        return plan

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """See Kernels."""
        y = x.new_empty(len(x), weight.shape[1])
        self._run("conv", x, weight, None, None, None, y, (len(x),), 1, *weight.shape, 0)
        return y

    def moments(self, x: Tensor) -> Tensor:
        """See Kernels."""
        sums = x.new_empty(2, x.shape[1], dtype=torch.float64)
        self._run("moments", x, (len(x),), x.shape[1], sums)
        return sums

    def normalise(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """See Kernels."""
        y = torch.empty_like(x)
        self._run("normalise", x, scale, shift, y, (len(x),), x.shape[1])
        return y

    def normalise_pool(self, x: Tensor, scale: Tensor, shift: Tensor, pool: Tensor) -> tuple[Tensor, Tensor]:
        """See Kernels."""
        y = x.new_empty(len(pool), x.shape[1])
        which = torch.empty_like(y, dtype=torch.uint8)
        self._run("normalise_pool", x, scale, shift, pool, y, which, (len(pool),), x.shape[1])
        return y, which

    def norm_backward(
        self, dy: Tensor, y: Tensor, x: Tensor, pool: Tensor | None, mean: Tensor, finish: Finish
    ) -> tuple[Tensor, Tensor | None]:
        """See Kernels."""
        sums = x.new_empty(2, x.shape[1], dtype=torch.float64)
        name, tables = ("", ()) if pool is None else ("_pool", (pool,))
        inputs = (dy, y, *tables, x, mean)
        count = (len(x if pool is None else pool),)
        self._run(f"norm_sums{name}", *inputs, count, x.shape[1], sums)
        coefficients = finish(sums)
        if coefficients is None:
            return sums, None
        dx = torch.empty_like(x)
        self._run(f"norm_grad{name}", *inputs, *coefficients, dx, count, x.shape[1])
        return sums, dx

    def _run(self, name: str, x: Tensor, *arguments: Any) -> None:
        """The function of x's dtype; all floating tensors must share it."""
        for argument in arguments:
            if isinstance(argument, Tensor) and argument.is_floating_point() and argument.dtype != torch.float64:
                assert argument.dtype == x.dtype
        self._call(f"mesm_{name}_{SUFFIX[x.dtype]}", x, *arguments)

    def _call(self, name: str, *arguments: Any) -> None:
        """Tensors as pointers, (n,) as 64-bit counts, the rest as int; the number of threads comes last."""
        passed: list[Any] = []
        for argument in arguments:
            if isinstance(argument, Tensor):
                assert argument.is_contiguous()
                passed.append(ctypes.c_void_p(argument.data_ptr()))
            elif isinstance(argument, tuple):
                passed.append(ctypes.c_int64(argument[0]))
            else:
                passed.append(None if argument is None else ctypes.c_int(argument))
        getattr(self._library, name)(*passed, ctypes.c_int(torch.get_num_threads()))


def full_lines(x: Tensor, dimensions: int = 1) -> Tensor:
    """x with its last dimensions, of channels, filled with zeros up to the next multiple of LINE.

    Winograd's way takes whole vectors only. 90 to 90 channels take a third of the time of plain sums, copies included,
    and 24 to 24 half; of 8 or fewer channels plain sums are faster.
    """
    whole = LINE // x.element_size()
    missing = [-size % whole for size in x.shape[: -dimensions - 1 : -1]]
    return functional.pad(x, [end for count in missing for end in (0, count)]) if any(missing) else x

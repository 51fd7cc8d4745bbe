"""Counts what a graphics card would be given to do, by CPU tensors that take its way: for machines without one."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mesm_train.data import device as accelerator

# Operators that start no kernel: they look at a tensor in another way, or reserve memory, or make a number of the host.
FREE = {
    "alias", "as_strided", "detach", "diagonal", "empty", "empty_like", "empty_strided", "expand", "lift_fresh",
    "new_empty", "new_empty_strided", "permute", "scalar_tensor", "select", "slice", "split", "split_with_sizes",
    "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view", "_unsafe_view", "_reshape_alias",
}  # fmt: skip
# Operators that start more than one, in torch's CUDA code (2.13). A convolution adds its bias by itself; dropout, which
# is one kernel there, is bernoulli_, div_ and mul here.
SEVERAL = {
    "convolution": 2, "convolution_backward": 3, "native_layer_norm_backward": 2, "native_batch_norm_backward": 2,
    "sort": 4, "cumsum": 2, "nonzero_static": 3, "_fft_r2c": 2, "constant_pad_nd": 2, "div_": 0,
}  # fmt: skip
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero"}


class Host(torch.Tensor):
    """A tensor that would lie on the host, and so would what is computed from it."""


class Launches(TorchDispatchMode):
    """Counts kernels by operator, and the bytes that they write. Waits of the host are counted as "wait"."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, and compute."""
        name = func._schema.name.removeprefix("aten::")
        result = func(*args, **(kwargs or {}))
        if name not in FREE and not any(isinstance(value, Host) for value in tree_leaves((args, kwargs))):
            self.counts["wait" if name in WAITS else name] += SEVERAL.get(name, 1)
            self.bytes[name] += sum(value.nbytes for value in tree_leaves(result) if isinstance(value, Tensor))
        return result


@contextmanager
def recorded() -> Iterator[Launches]:
    """Count while CPU tensors take the way of a card. The counts of a batch must be Host tensors."""
    original = Tensor.tolist
    with pytest.MonkeyPatch.context() as patch, Launches() as launches:

        def tolist(value: Tensor) -> Any:
            if not isinstance(value, Host):
                launches.counts["wait"] += 1
            return original(value)

        patch.setattr(Tensor, "tolist", tolist)
        patch.setattr(accelerator, "is_accelerator", lambda device: True)
        patch.setattr(accelerator, "to_device", lambda value, device: value.as_subclass(Tensor))
        yield launches

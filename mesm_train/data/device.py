"""The device of a run, and which of two implementations it takes: for a CPU, or with few kernel launches."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from mesm_data.errors import InputError, first_line


def is_accelerator(device: torch.device) -> bool:
    """Whether each operator launches a kernel, and reading a value blocks the host."""
    return device.type != "cpu"


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """Copy a small CPU tensor to `device` without blocking."""
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)


class HostCopy:
    """A small tensor on its way to the host. Until `wait` the host can start more work for the device."""

    def __init__(self, value: Tensor) -> None:
        self._value, self._copied = value.detach(), None
        if value.device.type == "cuda":
            host = torch.empty_like(self._value, device="cpu", pin_memory=True)
            self._value = host.copy_(self._value, non_blocking=True)
            self._copied = torch.cuda.current_stream(value.device).record_event()

    def wait(self) -> Tensor:
        """The tensor on the CPU, once the device has computed it; on other devices than CUDA the tensor itself."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._value


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """The device `name`; auto is the GPU of rank `local_rank` of this machine, if it has any.

    If there are more ranks than GPUs, they share them. Raises InputError if the device is not available.
    """
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    name = f"cuda:{local_rank % max(torch.cuda.device_count(), 1)}" if name in ("auto", "cuda") else name
    try:
        device = torch.device(name)
        # Statistics and site selection use float64, which Apple's MPS lacks.
        # `meta` makes tensors, but holds no values that could be read.
        torch.zeros(1, device=device, dtype=torch.float64).tolist()
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = first_line(error).partition(". ")[0]  # torch explains a missing backend on half a page
        raise InputError(f"device {name!r} cannot be used ({reason}): use auto") from None
    return device


def check_compiler(device: torch.device) -> None:
    """Compile a small function. Raises InputError if torch.compile does not work on this machine."""
    try:
        torch.compile(torch.sin)(torch.ones(2, device=device))
    except Exception as error:  # of many classes: no compiler, no headers of Python, no Triton
        raise InputError(
            f"optim.compile: torch.compile does not work here ({first_line(error)}). It needs a C++ compiler and the "
            "headers of Python, on a card Triton too; optim.compile=false does without"
        ) from None


def attention_without_plans() -> AbstractContextManager[None]:
    """A context without cuDNN's attention, for programs that should keep their own settings: `configure_backends`."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def configure_backends(device: torch.device, precision: str) -> None:
    """Set for the whole process what computes on a GPU, and whether float32 products and convolutions are TF32.

    By default torch's convolutions use TF32 and its matrix products do not. On Hopper torch 2.11 gives attention to
    cuDNN first, which plans it anew for each shape of a batch (up to 1 s, https://github.com/modelscope/FunASR/issues/3704;
    here ALBERT took 148 ms for 8 texts of new lengths); the other implementations plan nothing.
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"

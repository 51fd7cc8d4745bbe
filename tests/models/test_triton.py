"""Triton's kernels without a card: interpreted, against float64, and compiled for two cards, by what the code holds."""

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from launches import recorded
from test_launches import OPTIMIZER, Name, batch, model
from torch import Tensor

from mesm_data.errors import InputError
from mesm_train.models import kernels
from mesm_train.models.kernels import functions
from mesm_train.models.kernels.pure import PureKernels

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs the package triton: pip install 'mesm[triton]'"
)
CPU = torch.device("cpu")
# B, H, W, share of active sites, Cin, Cout: one row, channels below and beyond a block, some tiles, no row at all
SHAPES = [(1, 2, 2, 0.0, 3, 5), (3, 8, 6, 0.6, 17, 20), (2, 16, 16, 0.8, 64, 130), (5, 24, 24, 0.44, 24, 16)]
# Rounding of the result, relative: a unit of its last digit, as the interpreter truncates to bfloat16.
DTYPES = {torch.float32: 1e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}


def cases() -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Each shape in each dtype: mask, x, weight, dy."""
    generator, drawn_cases = torch.Generator().manual_seed(0), []
    for b, h, w, share, cin, cout in SHAPES:
        mask = torch.rand(b, h, w, generator=generator) < share
        mask[0, 0, 0] = True
        n = int(mask.sum())
        values = [torch.randn(*size, generator=generator) for size in ((n, cin), (9, cin, cout), (n, cout))]
        drawn_cases += [(mask, *(value.to(dtype) for value in values)) for dtype in DTYPES]
    empty = torch.zeros(2, 4, 4, dtype=torch.bool)
    return [*drawn_cases, (empty, torch.zeros(0, 3), torch.randn(9, 3, 5), torch.zeros(0, 5))]  # type: ignore[list-item]


@pytest.mark.slow
@needs_triton
def test_interpreted_kernels_are_the_gather_in_float64_forward_and_both_gradients(tmp_path: Path) -> None:
    """In float32, bfloat16 and float16, of the same rounded inputs; test_sparse.py compares the gather with grids."""
    inputs = cases()
    torch.save(inputs, tmp_path / "cases.pt")
    command = [
        sys.executable,
        str(Path(__file__).with_name("interpreted.py")),
        tmp_path / "cases.pt",
        tmp_path / "y.pt",
    ]
    subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, check=True, timeout=900)
    gather = PureKernels("gather")
    for (mask, *values), (*results, computed) in zip(inputs, torch.load(tmp_path / "y.pt"), strict=True):
        x, weight, dy = (value.double() for value in values)
        pooled = int(mask.view(len(mask), mask.shape[1] // 2, 2, mask.shape[2] // 2, 2).any(4).any(2).sum())
        table = gather.tables(mask, len(x), pooled)
        expected = (
            gather.conv(x, weight, table),
            gather.conv(dy, weight, table, mirror=True),
            gather.conv_weight(x, dy, table),
        )
        dtype = values[0].dtype
        for mine, goal in zip(results, expected, strict=True):
            assert mine.dtype == dtype
            least = 1e-6 * goal.abs().amax().item() if goal.numel() else 0.0  # sums are in float32
            torch.testing.assert_close(mine.double(), goal, rtol=DTYPES[dtype], atol=least)
        if len(x) > 1000:  # in the order of sites, every tile has all 9 taps
            assert computed < 0.9 * 9 * -(-len(x) // 128)


@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize("script", ["interpreted_rows.py norms", "interpreted_rows.py tables", "interpreted_stacks.py"])
def test_interpreted_norms_tables_and_stacks_equal_those_of_pytorch(script: str) -> None:
    """Values, gradients and running statistics in float64; the chosen sites and their neighbours to the bit."""
    name, *arguments = script.split()
    command = [sys.executable, str(Path(__file__).with_name(name)), *arguments]
    done = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr


def compiled(function: Any, constants: dict[str, Any], dtype: str, capability: int, warps: int, folder: Path) -> Any:
    """(registers, bytes of stack and local memory, Counter of instructions) of a function compiled for a card."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mesm_train.models.kernels import card_kernels as engine

    kinds = {
        **dict.fromkeys(("x", "y", "dy", "dx", "weight"), f"*{dtype}"),
        **dict.fromkeys(("parts", "stats", "gradients", "bias", "offset"), "*fp32"),
        **dict.fromkeys(("running_mean", "running_var", "weights"), "*fp32"),
        **dict.fromkeys(("projection", "guide", "score", "scores", "chosen"), "*fp32"),
        **dict.fromkeys(("dscores", "dsums", "dweights"), "*fp32"),
        **dict.fromkeys(("order", "ends", "places", "window_places"), "*i64"), "other_windows": "*i64", "p_bits": "i64",
        "active": "*i1", "kept": "*i8", "windows": "*i8",
        **dict.fromkeys(("sources", "pair_sources", "pair_rows", "pair_ends", "masks", "counts", "pool"), "*i32"),
        **dict.fromkeys(("rank", "ranks", "window_rank", "near"), "*i32"),
        **dict.fromkeys(("rows", "tiles", "share", "count", "units", "sites", "pictures", "height", "width"), "i32"),
        **dict.fromkeys(("momentum", "eps"), "fp32"),
    }  # fmt: skip
    signature = {name: "constexpr" if name in constants else kinds[name] for name in function.arg_names}
    aligned = [n for n, name in enumerate(function.arg_names) if signature[name].startswith("*")]
    source = ASTSource(function, signature, constants, {(n,): [["tt.divisibility", 16]] for n in aligned})
    options = {"num_warps": warps, "num_stages": engine.STAGES}
    kernel = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert kernel.metadata.shared <= {80: 163, 90: 227}[capability] * 1024
    cubin, tools = folder / "kernel.cubin", Path(triton.__file__).parent / "backends/nvidia/bin"
    cubin.write_bytes(kernel.asm["cubin"])
    # Function conv_kernel:
    #   REG:107 STACK:0 SHARED:1024 LOCAL:0 CONSTANT[0]:592 TEXTURE:0 SURFACE:0 SAMPLER:0
    usage = subprocess.run([tools / "cuobjdump", "--dump-resource-usage", cubin], capture_output=True, text=True).stdout
    match = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    assert match is not None, usage
    registers, stack, local = map(int, match.groups())
    code = subprocess.run([tools / "nvdisasm", cubin], capture_output=True, text=True, check=True).stdout
    instructions = Counter(re.findall(r"\b(HGMMA|HMMA|FFMA|LDGSTS|STL|LDL|LDG\.E\.128)\b", code))
    loop = kernel.asm["ttgir"].partition("scf.for")[2].partition("scf.yield")[0]
    return registers, stack + local, instructions + Counter({"loads in the loop": loop.count("tt.load")})


@pytest.mark.slow
@needs_triton
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("part", ["forward", "input", "weight"])
def test_compiled_kernels_use_tensor_cores_load_ahead_and_spill_nothing(
    capability: int, dtype: str, part: str, tmp_path: Path
) -> None:
    """For A100 and H100, 128 to 128 channels, bfloat16 and TF32: two tiles fit the registers of a processor."""
    from mesm_train.models.kernels import card_kernels as engine
    from mesm_train.models.kernels import triton_conv

    depth = 64 if dtype == "bf16" else 32
    shared = {"PRECISION": "tf32", "TILE": engine.TILE, "BLOCK_R": depth}
    if part == "weight":
        function, sizes = triton_conv.conv_weight_kernel, {"CIN": 128, "COUT": 128, "BLOCK_I": 128, "BLOCK_O": 128}
    else:
        function, sizes = triton_conv.conv_kernel, {"R": 128, "N": 128, "MIRROR": part == "input", "BLOCK_N": 128}
        sizes["R_LAST"] = part == "input" or dtype == "fp32"
    constants = {**sizes, **shared}
    registers, spilled, instructions = compiled(function, constants, dtype, capability, engine.WARPS, tmp_path)
    assert spilled == instructions["STL"] == instructions["LDL"] == 0
    assert 2 * 32 * engine.WARPS * registers <= 65536
    assert instructions[{80: "HMMA", 90: "HGMMA"}[capability]] > 0
    assert instructions["FFMA"] == 0
    assert instructions["LDGSTS"] > 0  # copies to shared memory that the loop does not wait for
    assert instructions["loads in the loop"] == 0


@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize("pooled", [False, True])
def test_compiled_batch_norms_and_tables_spill_nothing(pooled: bool, tmp_path: Path) -> None:
    """With as many registers as leave room for two programs on a processor."""
    from mesm_train.models.kernels import (
        card_choice,
        card_norm,
        card_patches,
        triton_choice,
        triton_norm,
        triton_patches,
    )

    shape = card_norm.shape_of(64, pooled=pooled)
    rows = dict(zip(("UNIT", "BLOCK_R", "BLOCK_C"), shape.of, strict=True))
    few = {"UNIT": 16, "TRAINING": True, "BLOCK_P": card_norm.BLOCK_P, "BLOCK_C": card_norm.FEW}
    sites = {"BLOCK": card_choice.block_of(64 * 16)}
    chosen = {"SIDE": 4, "TILES": 64} if pooled else {"SIDE": 1, "TILES": sites["BLOCK"]}
    side = {"TILE": card_choice.ROWS, "BLOCK_R": card_choice.BLOCK_C, "BLOCK_C": card_choice.BLOCK_C}
    attention = {"R": 128, "C": 128, "PRECISION": card_choice.PRECISION, **side}
    patch = {"H": 48, "W": 48, "CIN": 3, "SIDE": 5, "SPAN": card_patches.SPAN, "N": 64, "BLOCK_N": 64}
    functions = {
        **{name: {"POOL": pooled, **rows} for name in ("normalise_kernel", "sums_kernel", "gradient_kernel")},
        "moments_kernel": rows, "statistics_kernel": {"OFFSET": True, **few}, "coefficients_kernel": few,
        "scores_kernel": attention, "scores_gradient_kernel": attention,
        "choose_gradient_kernel": {name: chosen[name] for name in ("SIDE", "TILES")},
        "patch_conv_kernel": {**patch, "TILE": card_patches.TILE},
        "patch_weight_kernel": {**patch, "BLOCK_R": card_patches.TILE},
        "choose_kernel": {**chosen, **sites}, "tables_kernel": {"RANKED": True, **sites},
    }  # fmt: skip
    for name, constants in functions.items():
        [module] = [m for m in (triton_choice, triton_norm, triton_patches) if hasattr(m, name)]
        function = getattr(module, name)
        registers, spilled, instructions = compiled(function, constants, "bf16", 90, 4, tmp_path)
        assert spilled == instructions["STL"] == instructions["LDL"] == 0, name
        assert 2 * 32 * 4 * registers <= 65536, name
        if name in ("moments_kernel", "normalise_kernel", "sums_kernel", "gradient_kernel"):
            assert instructions["LDG.E.128"] > 0, name  # 16 bytes at a time


class Uncomputed:
    """Stands for a Triton function: counts its starts, and leaves 0 in those of its outputs that others look at."""

    def __init__(self, outputs: tuple[int, ...], counts: Counter[str]) -> None:
        self.outputs, self.counts = outputs, counts

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def start(*arguments: Any, **constants: Any) -> None:
            self.counts["triton"] += 1
            for output in self.outputs:
                arguments[output].detach().numpy()[...] = 0  # in NumPy, as nothing here is a launch

        return start


class UpperHalf(Uncomputed):
    """Stands for `choose_kernel`: the sites of the upper half of a picture are kept."""

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def start(*arguments: Any, **constants: Any) -> None:
            self.counts["triton"] += 1
            weights, kept, counts, height, width = (arguments[n] for n in (2, 3, 5, 8, 9))
            lines = height // 4 * 2
            weights.numpy()[...], kept.numpy()[...] = 1 / (height * width), 0
            kept.numpy()[:, :lines] = 1
            counts.numpy()[...] = np.array([[lines * width], [lines * width // 4], [0]])

        return start


@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize(("name", "most"), [("sites", 1970), ("tiles", 2075)])
def test_the_sorted_engine_has_the_fewest_launches(name: Name, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a step of MESM; fewer than the dense way for few pictures, and no further wait."""
    from mesm_train.models.kernels import card_kernels as engine
    from mesm_train.models.kernels import triton_choice, triton_conv, triton_norm

    counts: Counter[str] = Counter()
    outputs: dict[Any, dict[str, tuple[int, ...]]] = {
        triton_conv: {
            "sort_neighbours_kernel": (), "pairs_kernel": (), "conv_kernel": (5,), "conv_weight_kernel": (5,),
        },
        triton_norm: {
            "moments_kernel": (), "statistics_kernel": (), "normalise_kernel": (3,), "sums_kernel": (),
            "coefficients_kernel": (2,), "gradient_kernel": (5,),
        },
        triton_choice: {
            "scores_kernel": (7,), "scores_gradient_kernel": (7, 8), "choose_gradient_kernel": (2,),
            "tables_kernel": (4, 5, 9, 11, 12),
        },
    }  # fmt: skip
    for module, functions_of in outputs.items():
        for function, places in functions_of.items():
            monkeypatch.setattr(module, function, Uncomputed(places, counts))
    monkeypatch.setattr(triton_choice, "choose_kernel", UpperHalf((), counts))
    totals = []
    for ops, dense in ((PureKernels(), 1e30), (engine.TritonKernels(), 0.0)):
        monkeypatch.setattr(functions, "DENSE_OPERATIONS", dense)
        monkeypatch.setattr("mesm_train.models.streams.kernels", lambda name, device, ops=ops: ops)
        mesm, data = model(name).train(), batch()
        with recorded() as launches:
            mesm(data).sum().backward()
        assert launches.counts.pop("wait") == 6
        totals.append(launches.counts.total() + counts.total() + OPTIMIZER)
    # Six blocks: scores and choice both ways, tables, their order, pairs, two convolutions' three products. 22 batch
    # norms both ways, and six of what tiles pass on.
    assert counts["triton"] == 6 * (4 + 1 + 2 + 2 * 3) + (28 if name == "tiles" else 22) * 6
    assert totals[1] <= most < totals[0] <= 2600, totals


def test_without_triton_a_card_uses_pytorch_with_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = torch.device("cuda:0")
    reasons = [(False, (9, 0), "the package triton is not installed"), (True, (7, 5), "this card has 7.5")]
    for there, capability, reason in reasons:
        kernels._triton.cache_clear()
        monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name, there=there: there or None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, version=capability: version)
        assert [kernels.kernels("auto", card).name for _ in range(2)] == ["torch", "torch"]
        assert capsys.readouterr().err.count(reason) == 1
        with pytest.raises(InputError, match=rf"model\.sparse\.engine is 'triton': .*{reason}"):
            kernels.kernels("triton", card)
    kernels._triton.cache_clear()
    assert kernels.kernels("triton", CPU).name == kernels.kernels("auto", CPU).name


def test_where_triton_cannot_compile_a_card_uses_pytorch_with_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container without gcc, or beside a Python without its headers."""

    def try_out(device: torch.device) -> None:
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")

    card, reason = torch.device("cuda:0"), r"Triton does not work here \(Failed to find C compiler"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setitem(sys.modules, "mesm_train.models.kernels.card_kernels", SimpleNamespace(try_out=try_out))
    kernels._triton.cache_clear()
    assert kernels.kernels("auto", card).name == "torch"
    assert re.search(reason, capsys.readouterr().err)
    with pytest.raises(InputError, match=rf"model\.sparse\.engine is 'triton': {reason}"):
        kernels.kernels("triton", card)
    kernels._triton.cache_clear()


@needs_triton
@pytest.mark.parametrize("takes_constants", [True, False])
def test_the_second_start_of_a_function_gives_it_what_this_triton_takes(
    takes_constants: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton 3.2 raises TypeError for constants. A stand-in for a card: Triton's own launcher needs a driver."""
    from mesm_train.models.kernels import launch

    starts: list[tuple[Any, ...]] = []

    class Function:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            def start(*arguments: Any, **options: int) -> Any:
                starts.append(arguments)
                return self

            return start

    monkeypatch.setattr("triton.JITFunction", Function)
    monkeypatch.setattr(launch, "TAKES_CONSTANTS", takes_constants)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    rows, function = torch.zeros(4), Function()
    for _ in range(2):
        launch.start(function, (1,), (rows,), (4,), (128,))
    assert starts == [(rows, 4, 128), (rows.data_ptr(), 4, *((128,) if takes_constants else ()))]

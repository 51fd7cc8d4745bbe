"""The sparse stacks, on both engines, against whole grids with masks (oracle.py)."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import oracle_nucleus, oracle_stack
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mesm_train.config.model_settings import ModelSettings, SparseSettings
from mesm_train.models.importance import Importance
from mesm_train.models.kernels import Kernels, build, kernels
from mesm_train.models.kernels.choice import nucleus
from mesm_train.models.kernels.compiler import BuildError
from mesm_train.models.kernels.functions import conv
from mesm_train.models.kernels.pure import PureKernels
from mesm_train.models.norm import BatchNorm
from mesm_train.models.selection import SCALES, SiteAttention
from mesm_train.models.sparse import NotFiniteError, SparseBlock, SparseStack
from mesm_train.models.streams import Stack
from mesm_train.models.tiles import TiledStack

TEXT = 5
CPU = torch.device("cpu")
SELECTIONS = ("published", "gate", "straight")
WAYS = ("cpp", "pairs", "windows", "gather")
torch.set_num_threads(1)


def engine(way: str) -> Kernels:
    return kernels("cpp", CPU) if way == "cpp" else PureKernels(way)  # type: ignore[arg-type]


class Forced(SparseStack):
    """On the kernels that a test chooses."""

    chosen: Kernels

    def kernels(self, device: torch.device) -> Kernels:
        return self.chosen


class ForcedTiles(Forced, TiledStack):
    """The same with tiles."""


def stack(
    way: str, kind: str = "published", p: float = 0.6, channels: tuple[int, ...] = (3, 4, 19), **sparse: Any
) -> Forced:
    """With an attention and an importance that are not even, whatever they start from. Without `sparse`: sites."""
    torch.manual_seed(0)
    chosen = SparseSettings(p=p, selection=kind, **{"tile": 1, "anneal_epochs": 0, **sparse})  # type: ignore[arg-type]
    settings = ModelSettings(kind="mesm", channels=channels, hidden=16, dim=8, heads=2, stem_blocks=1, sparse=chosen)
    kind_of_stack = Forced if settings.sparse.tile == 1 else ForcedTiles
    sparse_stack = kind_of_stack(settings, 3, (16, 24), TEXT, "the stack").double()
    sparse_stack.chosen = engine(way)
    for module in sparse_stack.modules():
        if isinstance(module, BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, SiteAttention):
            nn.init.uniform_(module.score.weight, -0.5, 0.5)
        if isinstance(module, Importance):
            nn.init.uniform_(module.value, 0.5, 2)
    return sparse_stack


def inputs(count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randn(count, 3, 16, 24, dtype=torch.float64, generator=generator)
    return pictures, torch.randn(count, TEXT, dtype=torch.float64, generator=generator)


def buffers(module: nn.Module) -> list[Tensor]:
    return [value for name, value in module.named_buffers() if "running" in name]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize(("p", "count", "training"), [(0.6, 3, True), (0.9, 2, False), (1.0, 2, True), (1e-6, 3, True)])
def test_stack_is_the_masked_grids_forward_and_every_gradient(
    way: str, selection: str, p: float, count: int, training: bool
) -> None:
    check_against_whole_grids(stack(way, selection, p).train(training), count)


@pytest.mark.parametrize("way", ["cpp", "windows", "gather"])
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize(("tile", "p", "training"), [(2, 0.6, True), (4, 0.6, True), (4, 0.3, False), (4, 1.0, True)])
def test_tiles_are_those_of_the_masked_grids_forward_and_every_gradient(
    way: str, selection: str, tile: int, p: float, training: bool
) -> None:
    """The second grid, 4x6 sites, is not a multiple of 4x4."""
    check_against_whole_grids(stack(way, selection, p, tile=tile).train(training), 3)


@pytest.mark.parametrize(("selection", "p", "training"), [("gate", 0.6, True), ("straight", 0.3, False)])
def test_sites_that_have_an_importance_are_those_of_the_masked_grids(selection: str, p: float, training: bool) -> None:
    model = stack("cpp", selection, p, anneal_epochs=2.0).train(training)
    assert all(isinstance(block, SparseBlock) and block.importance is not None for block in model.blocks)
    check_against_whole_grids(model, 3)


def check_against_whole_grids(model: Forced, count: int) -> None:
    """float64; the choices, the vectors, the running statistics, and gradients of inputs and parameters."""
    kind, training = model.blocks[0].selection, model.training
    pictures, text = (value.requires_grad_() for value in inputs(count))
    expected, choices, running = oracle_stack(model, pictures, text)
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert any("attention" in name for name in trainable) == (kind != "published")
    leaves = {"pictures": pictures, "text": text, **trainable}
    towards = torch.randn(expected.shape, dtype=torch.float64)
    expected_gradients = torch.autograd.grad(expected, list(leaves.values()), towards, allow_unused=True)
    vectors, selections = model(pictures, text)
    for selection, choice in zip(selections, choices, strict=True):
        assert torch.equal(selection.kept, choice.kept)
        assert torch.equal(selection.active, choice.active)
    torch.testing.assert_close(vectors, expected, rtol=1e-9, atol=1e-9)
    gradients = torch.autograd.grad(vectors, list(leaves.values()), towards, allow_unused=True)
    for name, gradient, goal in zip(leaves, gradients, expected_gradients, strict=True):
        if name == "text" and kind == "published":
            assert gradient is None
        elif goal is not None:
            assert gradient is not None, name
            torch.testing.assert_close(gradient, goal, rtol=1e-8, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")
    if training:
        for mine, theirs in zip(buffers(model), running, strict=True):
            torch.testing.assert_close(mine, theirs)


@settings(max_examples=15)
@given(data=st.data())
def test_engines_agree_on_any_mask(data: st.DataObject) -> None:
    """Convolution, batch norm and pooling with their gradients; empty and full pictures, odd numbers of channels."""
    batch, height, width = data.draw(st.sampled_from([(1, 2, 2), (3, 4, 6), (2, 8, 4)]))
    share = data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    cin, cout = data.draw(st.sampled_from([(1, 1), (5, 3), (17, 70), (64, 16)]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    mask = torch.rand(batch, height, width, generator=generator) < share
    mask[0] = data.draw(st.booleans())
    pooled = int(mask.view(batch, height // 2, 2, width // 2, 2).any(4).any(2).sum())
    x = torch.randn(int(mask.sum()), cin, dtype=torch.float64, generator=generator)
    weight = torch.randn(9, cin, cout, dtype=torch.float64, generator=generator)
    towards = torch.randn(pooled, cout, dtype=torch.float64, generator=generator)
    results = []
    for way in WAYS:
        ops, norm = engine(way), BatchNorm(cout).double()
        nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(1))
        leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_(), norm.weight, norm.bias]
        table = ops.tables(mask, len(x), pooled)
        y = norm(norm(conv(leaves[0], leaves[1], table, ops), ops), ops, table.pool)
        results.append([y, *torch.autograd.grad(y, leaves, towards), *buffers(norm)])
    for other in results[1:]:
        for mine, theirs in zip(results[0], other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-8)


@given(st.data())
def test_nucleus_keeps_what_the_loop_keeps(data: st.DataObject) -> None:
    """Exactly, ties included (eighths sum without rounding); no more sites than needed; none of an empty picture."""
    row = st.lists(st.integers(0, 8), min_size=6, max_size=6)
    weights = data.draw(st.lists(row, min_size=1, max_size=4))
    flags = st.lists(st.booleans(), min_size=6, max_size=6)
    active = data.draw(st.lists(flags, min_size=len(weights), max_size=len(weights)))
    p = data.draw(st.sampled_from([0.01, 0.25, 0.5, 0.7, 0.99, 1.0]))
    a = torch.tensor(active).view(-1, 2, 3)
    w = torch.tensor(weights, dtype=torch.float32).view(-1, 2, 3) / 8 * a
    mask = nucleus(w, a, p)
    assert torch.equal(mask, oracle_nucleus(w, a, p))
    assert torch.equal(mask.any(2).any(1), a.any(2).any(1))


@pytest.mark.parametrize("sites", [1, 3, 576])
def test_p_of_one_keeps_every_site_whatever_the_rounding(sites: int) -> None:
    weights = torch.rand(200, 1, sites).softmax(-1)
    active = torch.ones(200, 1, sites, dtype=torch.bool)
    assert nucleus(weights, active, 1.0).all()
    assert nucleus(weights, active, math.nextafter(1.0, 0.0)).any(-1).all()


@pytest.mark.parametrize("way", WAYS)
def test_all_sites_active_is_the_dense_computation(way: str) -> None:
    """p = 1 on a full grid: the stack is the dense stack with the same weights."""
    model = stack(way, p=1.0)
    settings = ModelSettings(channels=(3, 4, 19), hidden=16, dim=8, heads=2, stem_blocks=1)
    dense = Stack(settings, 3, (16, 24)).double()
    source = {name: value for name, value in model.state_dict().items() if not name.startswith("blocks")}
    dense.load_state_dict(source, strict=False)
    for block, plain in zip(model.blocks, dense.blocks, strict=True):
        for n, layer in enumerate((plain.first, plain.second)):
            weight = block.convs[n].weight.detach()
            layer.conv.weight.data = weight.view(3, 3, *weight.shape[1:]).permute(3, 2, 0, 1).contiguous()
            nn.init.zeros_(layer.conv.bias)
            layer.norm.load_state_dict(block.norms[n].state_dict())
            layer.norm.eps = block.norms[n].eps
    pictures, text = inputs(3)
    vectors, selections = model(pictures, text)
    assert all(bool(selection.kept.all()) for selection in selections)
    torch.testing.assert_close(vectors, dense(pictures, None)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_attention_learns_unless_it_is_published(selection: str) -> None:
    model = stack("cpp", selection)
    model(*inputs(3))[0].square().sum().backward()
    attention = {n: p.grad for n, p in model.named_parameters() if ".attention." in n}
    # A shift of all scores does not move a softmax.
    expected_to_move = {n for n in attention if not n.endswith("score.bias")}
    moved = {n for n, grad in attention.items() if grad is not None and grad.abs().max() > 1e-12}
    assert moved == (set() if selection == "published" else expected_to_move)
    assert all((grad is None) == (selection == "published") for grad in attention.values())
    assert all(p.grad is not None for n, p in model.named_parameters() if ".attention." not in n)


@pytest.mark.parametrize("way", WAYS)
def test_convolution_has_the_gradients_of_finite_differences(way: str) -> None:
    ops = engine(way)
    mask = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(2)) < 0.6
    table = ops.tables(mask, int(mask.sum()), int(mask.view(2, 2, 2, 2, 2).any(4).any(2).sum()))
    x = torch.randn(int(mask.sum()), 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: conv(x, w, table, ops), (x, weight))


@pytest.mark.parametrize("way", WAYS)
def test_attention_that_is_not_finite_is_an_error_that_says_where(way: str) -> None:
    model = stack(way)
    pictures, text = inputs(2)
    text[1, 0] = torch.nan
    with pytest.raises(NotFiniteError, match="the stack, sparse block 1: the attention over the sites is not finite"):
        model(pictures, text)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("training", [True, False])
def test_no_pictures_and_single_sites_pass_forward_and_backward(way: str, training: bool) -> None:
    model = stack(way, "gate", p=1e-6).train(training)  # one site of each picture
    for count in (0, 1):
        before = [value.clone() for value in buffers(model)]
        pictures, text = inputs(count)
        vectors, selections = model(pictures, text)
        assert vectors.shape == (count, 8)
        assert [int(selection.kept.sum()) for selection in selections] == [count, count]
        vectors.sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        if count == 0:
            assert all(torch.equal(*pair) for pair in zip(buffers(model), before, strict=True))
        assert all(torch.isfinite(value).all() for value in buffers(model))


@pytest.mark.parametrize("way", ["cpp", "pairs"])
@pytest.mark.parametrize("pool", [False, True])
def test_batch_norm_over_ranks_is_that_over_all_their_rows(way: str, pool: bool) -> None:
    """Three ranks, one of them empty, with an all-reduce played by hand: values, gradients, running statistics."""
    ops, generator = engine(way), torch.Generator().manual_seed(3)
    parts = [torch.randn(n, 3, dtype=torch.float64, generator=generator) * 2 + 5 for n in (8, 0, 4)]
    towards = [torch.randn(len(x) // 4 if pool else len(x), 3, dtype=torch.float64, generator=generator) for x in parts]

    def run(norm: BatchNorm, x: Tensor, to: Tensor) -> tuple[Tensor, ...]:
        x = x.clone().requires_grad_()
        windows = torch.arange(len(x), dtype=torch.int32).view(-1, 4) if pool else None
        y = norm(x, ops, windows)
        return y.detach(), *torch.autograd.grad(y, (x, norm.weight, norm.bias), to)

    whole = BatchNorm(3).double()
    expected = run(whole, torch.cat(parts), torch.cat(towards))
    sums: list[Tensor] = []
    for turn in range(3):  # a rank's sums go out in turn 0 (forward) and 1 (backward, made with the right mean)
        sent: list[list[Tensor]] = []
        results = []
        for x, to in zip(parts, towards, strict=True):
            norm, mine = BatchNorm(3).double(), []

            def reduce(value: Tensor, mine: list[Tensor] = mine) -> Tensor:
                mine.append(value)
                return sums[len(mine) - 1] if len(mine) <= len(sums) else value

            norm.reduce = reduce
            results.append(run(norm, x, to))
            sent.append(mine)
            assert len(mine) == 2
        if turn < 2:
            sums.append(torch.stack([mine[turn] for mine in sent]).sum(0))
    for n, goal in enumerate(expected):
        mine = [result[n] for result in results]
        torch.testing.assert_close(torch.cat(mine) if n < 2 else torch.stack(mine).sum(0), goal)
    torch.testing.assert_close(norm.running_mean, whole.running_mean)
    torch.testing.assert_close(norm.running_var, whole.running_var)


@pytest.mark.parametrize("way", WAYS)
def test_batch_norm_keeps_the_variance_of_values_far_from_zero_and_of_bfloat16(way: str) -> None:
    norm = BatchNorm(2, momentum=1.0)
    rows = (torch.randn(5000, 2) * 3 + torch.tensor([1000.0, -7.0])).bfloat16()
    out = norm(rows, engine(way))
    assert out.dtype == torch.bfloat16
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, rows.float().mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.running_var, rows.double().var(0).float(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("way", ["cpp", "pairs"])
def test_batch_norm_keeps_its_sums_over_many_rows_forward_and_backward(way: str) -> None:
    """As many rows as the first layer has: torch's own sums in float32 are off by 1.5e-3 there."""
    torch.manual_seed(0)
    rows = (torch.randn(300_000, 4) * 2).relu().requires_grad_()
    norm = BatchNorm(4, momentum=1.0)
    norm(rows, engine(way)).square().sum().backward()
    assert norm.running_var is not None and norm.weight is not None and norm.weight.grad is not None  # noqa: PT018
    torch.testing.assert_close(norm.running_var, rows.detach().double().var(0).float(), rtol=2e-5, atol=0)
    exact = BatchNorm(4).double()
    exact(rows.detach().double(), engine(way)).square().sum().backward()
    torch.testing.assert_close(norm.weight.grad.double(), exact.weight.grad, rtol=2e-5, atol=0)


def test_cpp_is_the_same_bits_twice_and_on_any_number_of_threads() -> None:
    """Forward and all gradients: nothing is summed in an order of chance."""
    results = []
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        try:
            torch.manual_seed(1)
            ops = engine("cpp")
            mask = torch.rand(4, 16, 16) < 0.6
            pooled = int(mask.view(4, 8, 2, 8, 2).any(4).any(2).sum())
            x, norm = torch.randn(int(mask.sum()), 70, requires_grad=True), BatchNorm(40)
            weight = torch.randn(9, 70, 40, requires_grad=True)
            table = ops.tables(mask, len(x), pooled)
            y = norm(conv(x, weight, table, ops), ops, table.pool)
            results.append([y, *torch.autograd.grad(y.square().sum(), (x, weight, norm.weight, norm.bias))])
        finally:
            torch.set_num_threads(1)
    for other in results[1:]:
        for mine, theirs in zip(results[0], other, strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("width", [128, 80])
def test_cpp_rows_have_the_same_bits_in_any_batch(width: int) -> None:
    """What the evaluation's independence of the batch rests on, at a published width and one that is no whole tiles."""
    ops = engine("cpp")
    torch.manual_seed(2)
    masks, weight = torch.rand(5, 8, 8) < 0.7, torch.randn(9, 64, width)
    rows = [torch.randn(int(mask.sum()), 64) for mask in masks]

    def run(which: slice) -> Tensor:
        mask, x = masks[which], torch.cat(rows[which])
        table = ops.tables(mask, len(x), int(mask.view(len(mask), 4, 2, 4, 2).any(4).any(2).sum()))
        return torch.cat([ops.conv(x, weight, table), ops.product(x, weight[0])], 1)

    together = run(slice(None))
    assert torch.equal(together, torch.cat([run(slice(n, n + 1)) for n in range(5)]))


class Count(TorchDispatchMode):
    """The names of all operators, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_what_runs_on_a_graphics_card_does_not_grow_with_the_batch() -> None:
    """On a CPU, by the way that is taken there: the same operators for 9 pictures as for 2, and no wait among them."""
    model, operators = stack("gather", "gate"), []
    for count in (2, 2, 9):
        with Count() as counted:
            model(*inputs(count))[0].sum().backward()
        operators.append(counted.names)
    assert operators[1] == operators[2]
    waiting = {"_local_scalar_dense", "nonzero", "masked_select", "repeat_interleave"}
    assert not waiting & set(operators[2])  # the one tolist() of a block is no operator; it is counted below


def test_a_block_waits_for_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls, original = stack("gather").float(), [], Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda self: (calls.append(1), original(self))[1])
    pictures, text = inputs(3)
    model(pictures.float(), text.float())
    assert len(calls) == len(model.blocks)


def test_without_a_compiler_pytorch_is_used_with_a_message(monkeypatch: Any, capsys: Any) -> None:
    from mesm_data.errors import InputError
    from mesm_train.models import kernels as module

    monkeypatch.setenv("CXX", "no-such-compiler")
    module._native.cache_clear()
    try:
        assert [kernels("auto", CPU).name for _ in range(2)] == ["torch", "torch"]
        assert capsys.readouterr().err.count("there is no compiler no-such-compiler") == 1
        with pytest.raises(InputError, match=r"model\.sparse\.engine is 'cpp': there is no compiler"):
            kernels("cpp", CPU)
    finally:
        module._native.cache_clear()


def test_a_compiler_that_fails_is_quoted_with_its_first_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines are g++'s on a full disk."""
    compiler = tmp_path / "cxx"
    lines = (
        "a.s: Assembler messages:",
        "a.s: Fatal error: can't write: 'No space left'",
        "a.s: Fatal error: no such file",
    )
    compiler.write_text("#!/bin/sh\n" + "".join(f'echo "{line}" >&2\n' for line in lines) + "exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(BuildError, match=r"does not compile them \(a\.s: Fatal error: can't write: 'No space left'\)"):
        build.library()
    assert not list((tmp_path / "cache" / "mesm").iterdir())


@pytest.mark.slow  # two compilations
def test_concurrent_builds_leave_one_complete_library(tmp_path: Path) -> None:
    code = "from mesm_train.models.kernels.build import library; print(library()._name)"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert len({process.communicate()[0].strip() for process in started}) == 1
    assert [process.returncode for process in started] == [0, 0]
    [library] = (tmp_path / "mesm").glob("*.so")
    assert build.is_whole(library)
    assert len(list((tmp_path / "mesm").iterdir())) == 2  # it and its digest


@pytest.mark.parametrize(("anneal_epochs", "epochs"), [(2.0, 40), (4.0, 4)])  # (4, 4): to the middle of the training
def test_training_anneals_p_from_all_sites_and_evaluation_keeps_p(anneal_epochs: float, epochs: int) -> None:
    model, (pictures, text) = stack("cpp", "gate", 0.5, anneal_epochs=anneal_epochs), inputs(3)
    shares = []
    for epoch in (0.0, 0.5, 1.0, 2.0, 7.0):
        model.set_epoch(epoch, epochs)
        shares.append([block.training_p for block in model.blocks])
        _, selections = model.train()(pictures, text)
        assert bool(selections[0].kept.all()) == (epoch == 0)
        with torch.no_grad():
            _, evaluated = model.eval()(pictures, text)
        assert torch.equal(evaluated[0].kept, nucleus(evaluated[0].weights, evaluated[0].active, 0.5))
    assert shares == [[p, p] for p in (1.0, 0.875, 0.75, 0.5, 0.5)]


def test_a_block_starts_with_an_even_attention_where_it_learns() -> None:
    for kind, even in (("gate", True), ("straight", True), ("published", False)):
        sparse = SparseSettings(selection=kind, tile=1)  # type: ignore[arg-type]
        settings = ModelSettings(kind="mesm", channels=(3, 4), heads=2, dim=8, sparse=sparse)
        fresh = SparseStack(settings, 3, (16, 24), TEXT, "the stack")
        _, (selection,) = fresh(inputs(1)[0].float(), inputs(1)[1].float())
        assert (selection.weights.max() == selection.weights.min()) == even


def test_scales_are_the_selections() -> None:
    assert {"published", *SCALES} == set(SELECTIONS)

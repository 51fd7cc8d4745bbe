"""Convolutions of 4x4 sites at a time, in C++ and in PyTorch, against whole grids in float64; which sites they are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mesm_train.models.kernels import MIN_PAIRS, Kernels, Table
from mesm_train.models.kernels.native import NativeKernels
from mesm_train.models.kernels.pure import PureKernels
from mesm_train.models.kernels.winograd import LANES, windows

GRIDS = [(3, 24, 24), (2, 6, 6), (5, 10, 14), (1, 4, 16)]
SHARES = [1.0, 0.75, 0.5]  # of active sites: all, some and few windows are done at once
WIDTHS = [(16, 16), (64, 80), (32, 128), (24, 45), (17, 5)]  # the last two fill no whole vectors
Engine = type[NativeKernels] | type[PureKernels]


@pytest.fixture(autouse=True)
def _a_few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in (NativeKernels, PureKernels):
        monkeypatch.setattr(engine, "min_windows", 1)


def active(shape: tuple[int, int, int], share: float, seed: int = 0) -> Tensor:
    """A mask with a picture that is full and one that has a single site, where there are as many."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share
    if len(mask) > 2:
        mask[1], mask[2] = True, False
        mask[2, 1, 2] = True
    return mask


def tables(ops: Kernels, mask: Tensor) -> Table:
    batch, height, width = mask.shape
    pooled = mask.view(batch, height // 2, 2, width // 2, 2).any(4).any(2)
    return ops.tables(mask, int(mask.sum()), int(pooled.sum()))


def on_grids(mask: Tensor, x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
    """The convolution of whole grids with zeros, and by autograd its gradients: y, dx, dw."""
    x, weight = x.double().requires_grad_(), weight.double().requires_grad_()
    grid = x.new_zeros(*mask.shape, x.shape[1]).masked_scatter(mask[..., None], x).permute(0, 3, 1, 2)
    kernel = weight.view(3, 3, *weight.shape[1:]).permute(3, 2, 0, 1)
    y = functional.conv2d(grid, kernel, bias.double(), padding=1).permute(0, 2, 3, 1)[mask]
    return y.detach(), *torch.autograd.grad(y, (x, weight), dy.double())


def numbers(mask: Tensor, cin: int, cout: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    x, dy = (torch.randn(int(mask.sum()), c, generator=generator).to(dtype) for c in (cin, cout))
    weight = torch.randn(9, cin, cout, generator=generator) / (9 * cin) ** 0.5
    return x, weight.to(dtype), torch.randn(cout, generator=generator).to(dtype), dy


@pytest.mark.parametrize("engine", [NativeKernels, PureKernels])
@pytest.mark.parametrize("shape", GRIDS)
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize(("dtype", "rms"), [(torch.float64, 1e-14), (torch.float32, 5e-6)])
def test_winograd_equals_the_convolution_of_dense_grids(
    engine: Engine,
    shape: tuple[int, int, int],
    share: float,
    widths: tuple[int, int],
    dtype: torch.dtype,
    rms: float,
) -> None:
    """Forward with a bias, and both gradients; some sites at once, the others one by one."""
    ops, mask = engine(), active(shape, share)
    x, weight, bias, dy = numbers(mask, *widths, dtype)
    table = tables(ops, mask)
    results = (
        ops.conv(x, weight, table, bias=bias),
        ops.conv(dy, weight, table, mirror=True),
        ops.conv_weight(x, dy, table),
    )
    for mine, goal in zip(results, on_grids(mask, x, weight, bias, dy), strict=True):
        assert (mine.double() - goal).square().mean().sqrt() < rms * goal.std()
    chosen, alone = windows(table, MIN_PAIRS)
    assert len(chosen) > 0 or share == 0.5
    assert len(alone) > 0 or share > 0.5


@given(
    st.sampled_from([(1, 2, 2), (2, 6, 4), (3, 8, 10), (1, 16, 4)]),
    st.floats(0, 1),
    st.integers(0, 99),
    st.integers(1, 145),
)
def test_windows_are_those_with_enough_pairs(shape: tuple[int, int, int], share: float, seed: int, least: int) -> None:
    """Against loops, in both engines; each active site is in a window or alone."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share
    batch, height, width = shape
    rank = mask.flatten().cumsum(0).sub(1).masked_fill(~mask.flatten(), -1).view(shape)

    def row(b: int, y: int, x: int) -> int:
        return int(rank[b, y, x]) if 0 <= y < height and 0 <= x < width else -1

    expected, alone = [], []
    for b in range(batch):
        for top in range(0, height, 4):
            for left in range(0, width, 4):
                sites = [(b, y, x) for y in range(top, top + 4) for x in range(left, left + 4) if row(b, y, x) >= 0]
                pairs = sum(row(b, y + i, x + j) >= 0 for b, y, x in sites for i in (-1, 0, 1) for j in (-1, 0, 1))
                if pairs >= least:
                    expected.append([row(b, top + i, left + j) for i in range(-1, 5) for j in range(-1, 5)])
                else:
                    alone += [row(*site) for site in sites]
    chosen, others = windows(tables(PureKernels(), mask), least)
    assert chosen.tolist() == expected
    assert others.tolist() == sorted(alone)


def test_cpp_chooses_the_same_windows_as_pytorch() -> None:
    for shape in GRIDS:
        for share in SHARES:
            mask = active(shape, share)
            ops = NativeKernels()
            table = tables(ops, mask)
            chosen, others = ops._windows(table, torch.zeros(1), 16, 16)
            expected, alone = windows(tables(PureKernels(), mask), MIN_PAIRS)
            assert torch.equal(chosen, expected)
            assert torch.equal(others.long() if others is not None else torch.arange(int(mask.sum())), alone)


def test_cpp_is_the_same_bits_on_any_number_of_threads_and_in_any_batch() -> None:
    ops, mask = NativeKernels(), active((40, 24, 24), 0.8)
    x, weight, bias, dy = numbers(mask, 32, 48, torch.float32)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            table = tables(ops, mask)
            y = ops.conv(x, weight, table, bias=bias)
            results.append((y, ops.conv(dy, weight, table, mirror=True), ops.conv_weight(x, dy, table)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for other in results[1:] for pair in zip(results[0], other, strict=True))
    some = mask[7:12]
    first, count = int(mask[:7].sum()), int(some.sum())
    alone = ops.conv(x[first : first + count], weight, tables(ops, some), bias=bias)
    assert torch.equal(alone, results[0][0][first : first + count])


@pytest.mark.parametrize("threads", [2, 3, 9])
def test_pytorch_distributes_windows_over_any_number_of_threads(threads: int) -> None:
    """As lanes, of which the last has windows that are none."""
    ops, mask = PureKernels(), active((5, 24, 24), 0.9)
    x, weight, bias, dy = numbers(mask, 16, 32, torch.float64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        table = tables(ops, mask)
        results = (
            ops.conv(x, weight, table, bias=bias),
            ops.conv(dy, weight, table, mirror=True),
            ops.conv_weight(x, dy, table),
        )
        chunks, _ = ops._plan(table)
    finally:
        torch.set_num_threads(before)
    assert {chunk.lanes for chunk in chunks} == {min(threads, LANES)}
    for mine, goal in zip(results, on_grids(mask, x, weight, bias, dy), strict=True):
        assert (mine - goal).square().mean().sqrt() < 1e-14 * goal.std()


def test_exact_kernels_give_sites_with_equal_inputs_identical_outputs() -> None:
    """Which Winograd's way does not: a site's rounding depends on its place in the window."""
    ops, mask = NativeKernels(), torch.ones(2, 24, 24, dtype=torch.bool)
    picture = torch.randn(24, 24, 32, generator=torch.Generator().manual_seed(0))
    x = torch.stack([picture, picture.roll(1, 0)]).view(-1, 32)
    weight = torch.randn(9, 32, 32, generator=torch.Generator().manual_seed(1))

    def differing(ops: Kernels) -> int:
        one, moved = ops.conv(x, weight, tables(ops, mask)).view(2, 24, 24, 32)
        return int((one[1:-2] != moved[2:-1]).sum())

    exact = ops.as_batch_invariant()
    assert exact is not None
    assert differing(exact) == 0
    assert differing(ops) > 0


@pytest.mark.parametrize("engine", [NativeKernels, PureKernels])
def test_few_windows_are_computed_site_by_site(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As what is exact: the same bits as with none."""
    ops, mask = engine(), active((3, 24, 24), 0.75)
    x, weight, _, _ = numbers(mask, 32, 48, torch.float32)
    some = ops.conv(x, weight, tables(ops, mask))
    monkeypatch.setattr(engine, "min_windows", 1000)
    none = ops.conv(x, weight, tables(ops, mask))
    plain = ops.as_batch_invariant() or PureKernels("pairs")
    assert torch.equal(none, plain.conv(x, weight, tables(plain, mask)))
    assert not torch.equal(none, some)

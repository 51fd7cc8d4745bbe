"""The sparse blocks against loops over sites."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mesm_train.models.conv import BatchNorm, Stack
from mesm_train.models.settings import ModelSettings, SparseSettings
from mesm_train.models.sparse import SparseBlock, SparseStack, nucleus

TEXT = 5
torch.set_num_threads(1)


def literal_nucleus(weights: list[float], active: list[bool], p: float) -> list[bool]:
    order = sorted((i for i, a in enumerate(active) if a), key=lambda i: -weights[i])
    kept, total = [False] * len(weights), 0.0
    for i in order:
        if p < 1 and total >= p:
            break
        kept[i], total = True, total + weights[i]
    return kept


def literal_block(block: SparseBlock, x: Tensor, active: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pooled features, pooled active sites and the choice, site by site, in training mode."""
    b, _, height, width = x.shape
    attention = block.attention
    features: dict[tuple[int, int, int], Tensor] = {}
    for n in range(b):
        sites = [(y, z) for y in range(height) for z in range(width) if active[n, y, z]]
        scores = [
            attention.score(torch.tanh(attention.site(x[n, :, y, z]) + attention.text(text[n]))) for y, z in sites
        ]
        weights = torch.softmax(torch.cat(scores), 0) if sites else torch.zeros(0)
        kept = literal_nucleus(weights.tolist(), [True] * len(sites), block.p)
        for (y, z), weight, keep in zip(sites, weights, kept, strict=True):
            if keep:
                gate = weight * len(sites) if block.selection == "gate" else 1.0
                features[n, y, z] = x[n, :, y, z] * gate
    choice = torch.zeros_like(active)
    for site in features:
        choice[site] = True
    for conv, norm in zip(block.convs, block.norms, strict=True):
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, BatchNorm)
        after = {}
        for n, y, z in features:
            after[n, y, z] = sum(
                conv.weight[:, :, 1 + dy, 1 + dx] @ features[n, y + dy, z + dx]
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
                if (n, y + dy, z + dx) in features
            )
        rows = torch.stack(list(after.values()))
        mean, variance = rows.mean(0), rows.var(0, unbiased=False)
        rows = ((rows - mean) / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias).clamp(min=0)
        features = dict(zip(after, rows, strict=True))
    channels = len(next(iter(features.values())))
    pooled = x.new_zeros(b, channels, height // 2, width // 2)
    pooled_active = torch.zeros(b, height // 2, width // 2, dtype=torch.bool)
    for n, y, z in features:
        pooled_active[n, y // 2, z // 2] = True
        pooled[n, :, y // 2, z // 2] = torch.maximum(pooled[n, :, y // 2, z // 2], features[n, y, z])
    return pooled, pooled_active, choice


def tiny(selection: str = "published", p: float = 0.6) -> SparseBlock:
    torch.manual_seed(0)
    settings = SparseSettings(p=p, selection=selection)  # type: ignore[arg-type]
    block = SparseBlock(3, 4, TEXT, settings, "the block").double()
    for norm in block.norms.parameters():
        nn.init.uniform_(norm, 0.5, 1.5)
    return block


def inputs(b: int = 3, share: float = 0.7) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(b)
    active = torch.rand(b, 6, 4, generator=generator) < share
    x = torch.randn(b, 3, 6, 4, dtype=torch.float64, generator=generator) * active[:, None]
    return x, active, torch.randn(b, TEXT, dtype=torch.float64, generator=generator)


@given(st.data())
def test_nucleus_keeps_what_the_loop_keeps(data: st.DataObject) -> None:
    """Exactly, ties included (eighths sum without rounding); no more sites than needed; none of an empty picture."""
    weights = data.draw(st.lists(st.lists(st.integers(0, 8), min_size=6, max_size=6), min_size=1, max_size=4))
    active = data.draw(
        st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=len(weights), max_size=len(weights))
    )
    p = data.draw(st.sampled_from([0.01, 0.25, 0.5, 0.7, 0.99, 1.0]))
    w = torch.tensor(weights, dtype=torch.float32).view(-1, 2, 3) / 8
    a = torch.tensor(active).view(-1, 2, 3)
    found = nucleus(w * a, a, p).flatten(1).tolist()
    for row, flags, kept in zip((w * a).flatten(1).tolist(), active, found, strict=True):
        assert kept == literal_nucleus(row, flags, p)
        assert any(kept) == any(flags)


@pytest.mark.parametrize("sites", [1, 3, 576])
def test_p_of_one_keeps_every_site_whatever_the_rounding(sites: int) -> None:
    weights = torch.rand(200, 1, sites).softmax(-1)
    active = torch.ones(200, 1, sites, dtype=torch.bool)
    assert nucleus(weights, active, 1.0).all()
    assert nucleus(weights, active, math.nextafter(1.0, 0.0)).any(-1).all()


@pytest.mark.parametrize("selection", ["published", "gate"])
@pytest.mark.parametrize("p", [1e-6, 0.4, 0.8, 1.0])
def test_block_computes_what_loops_over_sites_compute(selection: str, p: float) -> None:
    block = tiny(selection, p)
    x, active, text = inputs()
    active[1] = False
    x = x * active[:, None]
    pooled, pooled_active, trace = block(x, active, text)
    expected, expected_active, expected_kept = literal_block(block, x, active, text)
    assert torch.equal(trace.kept, expected_kept)
    assert torch.equal(pooled_active, expected_active)
    torch.testing.assert_close(pooled, expected, rtol=1e-10, atol=1e-10)
    assert not pooled[1].any()
    assert not (trace.kept & ~active).any()


def test_running_statistics_are_of_the_active_sites_only() -> None:
    block = tiny()
    x, active, text = inputs()
    _, _, trace = block(x, active, text)
    first, conv = block.norms[0], block.convs[0]
    assert isinstance(first, BatchNorm)
    assert first.running_mean is not None
    rows = conv(x * trace.kept[:, None]).permute(0, 2, 3, 1)[trace.kept]
    torch.testing.assert_close(first.running_mean, 0.01 * rows.mean(0))
    assert first.eps == 1e-4


def test_all_sites_active_is_the_dense_computation() -> None:
    """p = 1 on a full grid: the stack is the dense stack with the same weights."""
    settings = ModelSettings(
        kind="mesm", channels=(4, 6, 8), hidden=16, dim=8, heads=2, sparse=SparseSettings(p=1.0, bn_eps=1e-5)
    )
    sparse = SparseStack(settings, 3, (16, 24), TEXT, "stack").double()
    dense = Stack(settings, 3, (16, 24)).double()
    source = {name: value for name, value in sparse.state_dict().items() if ".attention." not in name}
    target = {name: value for name, value in dense.state_dict().items() if "blocks" not in name}
    dense.load_state_dict({name: source[name] for name in target}, strict=False)
    for block, plain in zip(sparse.blocks, dense.blocks, strict=True):
        assert isinstance(block, SparseBlock)
        layers = [module for module in plain.modules() if isinstance(module, nn.Conv2d | BatchNorm)]
        for layer, mine in zip(layers, (block.convs[0], block.norms[0], block.convs[1], block.norms[1]), strict=True):
            layer.load_state_dict(mine.state_dict(), strict=False)
            if isinstance(layer, nn.Conv2d):
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
    pictures, text = torch.rand(3, 3, 16, 24, dtype=torch.float64), torch.randn(3, TEXT, dtype=torch.float64)
    found, traces = sparse(pictures, text)
    assert all(bool(trace.kept.all()) for trace in traces)
    torch.testing.assert_close(found, dense(pictures, None)[0], rtol=1e-9, atol=1e-9)


def test_gate_trains_the_attention_and_published_does_not() -> None:
    x, active, text = inputs()
    for selection in ("gate", "published"):
        block = tiny(selection)
        block(x, active, text.requires_grad_())[0].square().sum().backward()
        attention = dict(block.attention.named_parameters())
        # A shift of all scores does not move a softmax.
        moved = {n for n, p in attention.items() if p.grad is not None and p.grad.abs().max() > 1e-9}
        assert moved == (set(attention) - {"score.bias"} if selection == "gate" else set())
        assert all((p.grad is not None) == (selection == "gate") for p in attention.values())
        assert all(p.grad is not None for p in [*block.convs.parameters(), *block.norms.parameters()])


@pytest.mark.parametrize("selection", ["published", "gate"])
def test_gradients_are_those_of_finite_differences(selection: str) -> None:
    block = tiny(selection)
    x, active, text = inputs(2)
    sites = active[:, None]

    def forward(x: Tensor, text: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in block.named_parameters()]
        changed = dict(zip(names, parameters, strict=True))
        pooled: Tensor = torch.func.functional_call(block, changed, (x * sites, active, text))[0]
        return pooled

    free = [x.clone().requires_grad_(), text.clone().requires_grad_(selection == "gate")]
    learnt = selection == "gate"
    parameters = [
        p.detach().clone().requires_grad_(learnt or not name.startswith("attention"))
        for name, p in block.named_parameters()
    ]
    # The running statistics move with every call and do not enter in training mode.
    assert torch.autograd.gradcheck(forward, (*free, *parameters), fast_mode=True)


def test_attention_that_is_not_finite_is_an_error_that_says_where() -> None:
    block = tiny()
    x, active, text = inputs()
    text[1, 0] = torch.nan
    with pytest.raises(ValueError, match="the block: the attention over the sites is not finite"):
        block(x, active, text)


def test_one_active_site_and_no_pictures_pass() -> None:
    block = tiny()
    x, active, text = inputs(1)
    active[:] = False
    active[0, 2, 1] = True
    pooled, pooled_active, _ = block(x * active[:, None], active, text)
    assert torch.isfinite(pooled).all()
    assert pooled_active.sum() == 1
    before = {name: value.clone() for name, value in block.state_dict().items()}
    pooled, pooled_active, trace = block(x[:0], active[:0], text[:0])
    assert (pooled.shape, pooled_active.shape, trace.kept.shape) == ((0, 4, 3, 2), (0, 3, 2), (0, 6, 4))
    pooled.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


def test_batch_norm_sums_in_float32_also_for_bfloat16() -> None:
    norm = BatchNorm(2, momentum=1.0)
    rows = (torch.randn(5000, 2) * 3 + torch.tensor([100.0, -7.0])).bfloat16()
    out = norm(rows)
    assert out.dtype == torch.bfloat16
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, rows.float().mean(0), rtol=1e-5, atol=1e-5)

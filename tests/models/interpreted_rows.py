"""Triton's batch norms and tables of sites in its interpreter, against PyTorch. Its import decides what a function is.

    TRITON_INTERPRET=1 python interpreted_rows.py norms|tables

Ends with exit code 0 if all of them agree.
"""

import copy
import itertools
import sys
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional

from mesm_train.config.model_settings import ModelSettings, SparseSettings
from mesm_train.models import streams
from mesm_train.models.kernels import Sites, card_choice, card_patches
from mesm_train.models.kernels.card_kernels import TritonKernels
from mesm_train.models.kernels.card_norm import CardNormRelu
from mesm_train.models.kernels.choice import Choice, choose
from mesm_train.models.kernels.pure import PureKernels
from mesm_train.models.selection import SiteAttention
from mesm_train.models.sparse import SparseStack
from mesm_train.models.streams import Stack

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # of the largest value


def main() -> None:
    """Check what the argument names."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if sys.argv[1] == "tables":
        for pictures, height, width, share in ((1, 2, 2, 1.0), (3, 8, 6, 0.6), (2, 12, 12, 0.4), (4, 6, 6, 0.1)):
            check_scores(pictures, height, width, share)
            for tile in (1, 2, 4):
                check_choice(pictures, height, width, share if tile == 1 else 1.0, tile)
        return
    for rows, channels in ((5, 3), (700, 17), (1300, 130)):
        for options in itertools.product((True, False), TOLERANCE, (False, True), (False, True)):
            check_norm(rows, channels, *options)
    check_nan()
    check_padding()
    for shape, outputs, side in (((2, 3, 6, 9), 20, 5), ((3, 1, 16, 4), 64, 5), ((1, 5, 5, 3), 70, 3)):
        check_patches(shape, outputs, side)


def check_norm(rows: int, channels: int, training: bool, dtype: torch.dtype, pooled: bool, offset: bool) -> None:
    """Values, all gradients and running statistics, from the same rounded rows in float64."""
    x = (2 * torch.randn(rows, channels) + 3).to(dtype).double().requires_grad_()
    weight, bias = torch.rand(channels).add(0.5).double().requires_grad_(), torch.randn(channels).double()
    left_out = torch.randn(channels).double().requires_grad_() if offset else None
    mean, variance = torch.randn(channels).double(), torch.rand(channels).double() + 0.5
    pool = windows(rows) if pooled else None
    bias.requires_grad_()
    leaves = [None if t is None else t.detach().float().requires_grad_() for t in (weight, bias, left_out)]
    padding = 8 if rows > 5 else 0
    mine_x = functional.pad(x.detach(), (0, 0, 0, padding), value=3.0).to(dtype).requires_grad_()
    running = (mean.float().clone(), variance.float().clone())
    normal = functional.batch_norm(x if left_out is None else x + left_out, mean, variance, weight, bias, training)
    goal = normal.relu()
    if pool is not None:
        goal = functional.pad(goal, (0, 0, 0, 1))[pool.long().remainder(rows + 1)].max(1).values
    y = CardNormRelu.apply(mine_x, *leaves, pool, *running, 0.1, 1e-5, training, padding)
    dy = torch.randn_like(goal).to(dtype)
    goal.backward(dy.double())
    y.backward(functional.pad(dy, (0, 0, 0, len(y) - len(dy)), value=3.0))
    assert len(y) - len(goal) == (padding // 4 if pooled else padding)
    assert mine_x.grad is not None
    assert not y[len(goal) :].any()
    assert not mine_x.grad[rows:].any()
    y, dx = y[: len(goal)], mine_x.grad[:rows]
    pairs = {"y": (y, goal), "mean": (running[0], mean), "variance": (running[1], variance)}
    pairs |= {
        "dx": (dx, x.grad),
        "dweight": (leaves[0].grad, weight.grad),
        "dbias": (leaves[1].grad, bias.grad),
    }
    if left_out is not None:
        pairs["doffset"] = (leaves[2].grad, left_out.grad)
    for name, (one, other) in pairs.items():
        most = TOLERANCE[dtype] * max(1.0, float(other.detach().abs().max()))
        assert (one.double() - other).abs().max() <= most, (rows, channels, training, dtype, pooled, offset, name)


def check_nan() -> None:
    """A number that is not finite does not become 0: or the loss of a network that diverged would be finite."""
    x = torch.randn(8, 3)
    x[5, 1] = torch.nan
    for pool in (None, torch.arange(8, dtype=torch.int32).view(2, 4)):
        values = (torch.ones(3), torch.zeros(3), None, pool, torch.zeros(3), torch.ones(3))
        y = CardNormRelu.apply(x, *values, 0.1, 1e-5, False, 0)
        assert y.isnan().nonzero().tolist() == [[5 if pool is None else 1, 1]]


def check_patches(shape: tuple[int, int, int, int], outputs: int, side: int) -> None:
    """A convolution of few channels and the gradient of its weight, from the same rounded numbers in float64."""
    pictures, weight = torch.randn(shape).half(), torch.randn(outputs, shape[1], side, side).half().requires_grad_()
    assert card_patches.fits(pictures, weight)
    exact = weight.detach().double().requires_grad_()
    goal = functional.conv2d(pictures.double(), exact, padding=side // 2).permute(0, 2, 3, 1).flatten(0, 2)
    rows = card_patches.PatchConv.apply(pictures, weight)
    dy = torch.randn(rows.shape).half()
    rows.backward(dy)
    goal.backward(dy.double())
    for one, other in ((rows, goal), (weight.grad, exact.grad)):
        assert (one.double() - other).abs().max() <= 2e-3 * float(other.detach().abs().max()), (shape, side)


def check_padding() -> None:
    """Of the pictures of a stack, which changes vectors, gradients and statistics by rounding only."""
    sizes = {"channels": (4, 8, 8), "hidden": 8, "dim": 4, "heads": 2, "stem_blocks": 1}
    for kind, made_by in (("fe2e", Stack), ("mesm", SparseStack)):
        settings = ModelSettings(kind=kind, sparse=SparseSettings(p=1.0, tile=1), **sizes)  # type: ignore[arg-type]
        stack = Stack(settings, 3, (16, 16)) if made_by is Stack else SparseStack(settings, 3, (16, 16), 5, "a stack")
        pictures, text, results = torch.randn(17, 3, 16, 16), torch.randn(17, 5), []
        for few in (17, 18):  # padded to 18, and not
            one = copy.deepcopy(stack)
            with mock.patch.object(streams, "FEW_PICTURES", few), mock.patch.object(streams, "kernels", triton):
                vectors, _ = one(pictures, text)
            vectors.square().sum().backward()
            gradients = [p.grad for p in one.parameters() if p.grad is not None]
            results.append([vectors, *gradients, *(value for value in one.buffers() if value.is_floating_point())])
        for one, other in zip(*results, strict=True):
            assert (one - other).abs().max() <= 1e-4 * max(1.0, float(other.detach().abs().max())), kind


def triton(*_: object) -> TritonKernels:
    """The kernels of a card."""
    return TritonKernels()


def windows(rows: int) -> Tensor:
    """int32 (m, 4): each row in one window, three in each, in any order and at any places."""
    count = -(-rows // 3)
    places = torch.stack([4 * i + torch.randperm(4)[:3] for i in range(count)]).flatten()[:rows]
    return torch.full((4 * count,), -1).index_copy(0, places, torch.randperm(rows)).view(count, 4).int()


def random_sites(pictures: int, height: int, width: int, share: float) -> Sites:
    """Some sites of pictures, at least one of each; with their rows."""
    active = torch.rand(pictures, height, width) < share
    active[:, 0, 0] = True
    places = active.flatten().nonzero().squeeze(1)
    rank = torch.full((active.numel(),), -1, dtype=torch.int32)
    rank[places] = torch.arange(len(places), dtype=torch.int32)
    return Sites(active=active, places=places, rank=rank.view(active.shape))


def check_scores(pictures: int, height: int, width: int, share: float) -> None:
    """The scores of sites and all gradients, from the same rounded rows in float64."""
    for inputs, dtype in ((5, torch.float32), (70, torch.bfloat16), (130, torch.float32)):
        sites, attention = random_sites(pictures, height, width, share), SiteAttention(inputs, 7)
        x, text = torch.randn(len(sites.places), inputs).to(dtype), torch.randn(pictures, 7)
        results = []
        for ops, precision in ((TritonKernels(), torch.float32), (PureKernels(), torch.float64)):
            module = copy.deepcopy(attention).to(precision)
            rows = x.to(dtype if precision == torch.float32 else precision, copy=True).requires_grad_()
            guide = text.to(precision, copy=True).requires_grad_()
            scores = module(rows, sites, guide, ops).flatten()[sites.places]
            (scores * torch.arange(len(scores))).sum().backward()
            results.append([scores, rows.grad, guide.grad, *(value.grad for value in module.parameters())])
        for mine, goal in zip(*results, strict=True):
            most = TOLERANCE[dtype] * max(1.0, float(goal.detach().abs().max()))
            assert (mine.double() - goal).abs().max() <= most, (inputs, dtype, pictures)


def check_choice(pictures: int, height: int, width: int, share: float, tile: int) -> None:
    """Weights and their gradient, the nucleus of random and of equal weights, the counts, and all of a table."""
    sites = random_sites(pictures, height, width, share)
    active = sites.active
    for p in (0.3, 0.5, 0.8, 0.999, 1.0):
        scores = torch.randn(pictures, -(-height // tile), -(-width // tile)).requires_grad_()
        exact = scores.detach().double().requires_grad_()
        mine, goal = card_choice.choose(scores, active, p, tile), choose(exact, active, p, tile)
        assert torch.equal(mine.kept, goal.kept), (active.shape, p, tile)
        assert mine.counts.tolist() == goal.counts.tolist()
        assert mine.ends is not None
        assert mine.ends[0].diff().tolist() == goal.kept.flatten(1).sum(1)[1:].tolist()
        towards = torch.randn(active.shape)
        (mine.weights * towards).sum().backward()
        (goal.weights * towards.double()).sum().backward()
        for one, other in ((mine.weights, goal.weights), (scores.grad, exact.grad)):
            assert (one.double() - other).abs().max() < 1e-6, (active.shape, p, tile)
        even = torch.zeros_like(scores)
        # Where equal weights reach p to the last bit, the order of the sum decides.
        different = card_choice.choose(even, active, p, tile).kept != choose(even, active, p, tile).kept
        assert different.flatten(1).sum(1).max() <= tile**2, (active.shape, p, tile)
        check_table(mine.ends, goal, sites)
    broken = scores.detach().clone()
    broken[0, 0, 0] = torch.nan
    assert card_choice.choose(broken, active, 0.5, tile).counts[2] > 0


def check_table(ends: Tensor, choice: Choice, sites: Sites) -> None:
    """The neighbours, the windows, and the rows among the active sites."""
    kept, count, pooled = choice.kept, int(ends[0, -1]), int(ends[1, -1])
    goal = PureKernels().tables(kept, count, pooled)
    for rank in (sites.rank, None):
        mine = card_choice.tables(kept, count, pooled, ends, rank)
        assert mine.shape == goal.shape
        assert torch.equal(mine.sites, goal.sites)
        assert torch.equal(mine.near, goal.near)
        assert torch.equal(mine.pool, goal.pool)
        assert torch.equal(mine.plans["masks"], ((goal.near >= 0).int() << torch.arange(9)).sum(1).to(torch.int16))
        windows = goal.pooled
        assert mine.sources is not None
        assert torch.equal(mine.pooled.active, windows.active)
        assert torch.equal(mine.pooled.places, windows.places)
        assert mine.pooled.other_places is not None
        assert torch.equal(mine.pooled.other_places, (~windows.active).flatten().nonzero().squeeze(1))
        assert mine.pooled.rank is not None
        assert torch.equal(mine.pooled.rank.flatten()[windows.places], torch.arange(pooled, dtype=torch.int32))
        chosen = mine.sites if rank is None else torch.searchsorted(sites.places, mine.sites)
        assert torch.equal(mine.sources, chosen)


if __name__ == "__main__":
    main()

"""Triton's batch norms and tables of sites in its interpreter, against PyTorch. Its import decides what a function is.

    TRITON_INTERPRET=1 python interpreted_rows.py norms|tables

Ends with exit code 0 if all of them agree.
"""

import itertools
import sys

import torch
from torch import Tensor
from torch.nn import functional

from mesm_train.models.kernels import card_tables
from mesm_train.models.kernels.card_norm import CardNormRelu
from mesm_train.models.kernels.nucleus import nucleus
from mesm_train.models.kernels.pure import PureKernels

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # of the largest value


def main() -> None:
    """Check what the argument names."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if sys.argv[1] == "tables":
        for pictures, height, width, share in ((1, 2, 2, 1.0), (3, 8, 6, 0.6), (2, 12, 12, 0.4), (4, 6, 6, 0.1)):
            check_tables(pictures, height, width, share)
        return
    for rows, channels in ((5, 3), (700, 17), (1300, 130)):
        for options in itertools.product((True, False), TOLERANCE, (False, True), (False, True)):
            check_norm(rows, channels, *options)


def check_norm(rows: int, channels: int, training: bool, dtype: torch.dtype, pooled: bool, offset: bool) -> None:
    """Values, all gradients and running statistics, from the same rounded rows in float64."""
    x = (2 * torch.randn(rows, channels) + 3).to(dtype).double().requires_grad_()
    weight, bias = torch.rand(channels).add(0.5).double().requires_grad_(), torch.randn(channels).double()
    left_out = torch.randn(channels).double().requires_grad_() if offset else None
    mean, variance = torch.randn(channels).double(), torch.rand(channels).double() + 0.5
    pool = windows(rows) if pooled else None
    bias.requires_grad_()
    leaves = [None if t is None else t.detach().float().requires_grad_() for t in (weight, bias, left_out)]
    mine_x, running = x.detach().to(dtype).requires_grad_(), (mean.float().clone(), variance.float().clone())
    normal = functional.batch_norm(x if left_out is None else x + left_out, mean, variance, weight, bias, training)
    goal = normal.relu()
    if pool is not None:
        goal = functional.pad(goal, (0, 0, 0, 1))[pool.long().remainder(rows + 1)].max(1).values
    y = CardNormRelu.apply(mine_x, *leaves, pool, *running, 0.1, 1e-5, training)
    dy = torch.randn_like(goal).to(dtype)
    goal.backward(dy.double())
    y.backward(dy)
    pairs = {"y": (y, goal), "mean": (running[0], mean), "variance": (running[1], variance)}
    pairs |= {
        "dx": (mine_x.grad, x.grad),
        "dweight": (leaves[0].grad, weight.grad),
        "dbias": (leaves[1].grad, bias.grad),
    }
    if left_out is not None:
        pairs["doffset"] = (leaves[2].grad, left_out.grad)
    for name, (one, other) in pairs.items():
        most = TOLERANCE[dtype] * max(1.0, float(other.detach().abs().max()))
        assert (one.double() - other).abs().max() <= most, (rows, channels, training, dtype, pooled, offset, name)


def windows(rows: int) -> Tensor:
    """int32 (m, 4): each row in one window, three in each, in any order and at any places."""
    count = -(-rows // 3)
    places = torch.stack([4 * i + torch.randperm(4)[:3] for i in range(count)]).flatten()[:rows]
    return torch.full((4 * count,), -1).index_copy(0, places, torch.randperm(rows)).view(count, 4).int()


def check_tables(pictures: int, height: int, width: int, share: float) -> None:
    """The nucleus of random and of equal weights, and all of a table."""
    active = torch.rand(pictures, height, width) < share
    active[:, 0, 0] = True
    weights = torch.where(active, torch.rand(active.shape), 0)
    weights = weights / weights.sum((1, 2), keepdim=True)
    even = active / active.sum((1, 2), keepdim=True)
    for p in (0.3, 0.5, 0.8, 0.999):
        assert torch.equal(card_tables.nucleus(weights, active, p), nucleus(weights, active, p)), (active.shape, p)
        # Where equal weights reach p to the last bit, the order of the sum decides.
        different = card_tables.nucleus(even, active, p) != nucleus(even, active, p)
        assert different.flatten(1).sum(1).max() <= 1, (active.shape, p)
    pooled = int(active.view(pictures, height // 2, 2, width // 2, 2).any(4).any(2).sum())
    mine = card_tables.tables(active, int(active.sum()), pooled)
    goal = PureKernels().tables(active, int(active.sum()), pooled)
    assert mine.shape == goal.shape
    assert torch.equal(mine.sites, goal.sites)
    assert torch.equal(mine.near, goal.near)
    assert torch.equal(mine.pool, goal.pool)
    assert torch.equal(mine.plans["masks"], ((goal.near >= 0).int() << torch.arange(9)).sum(1).to(torch.int16))


if __name__ == "__main__":
    main()

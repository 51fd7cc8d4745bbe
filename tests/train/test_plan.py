"""Guarantees of the epoch plan: every sample once, even shares, nothing but its arguments decides it."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesm_train.data.plan import Samples, deal, derive_seed, plan, sorted_batches

counts, worlds, batches = st.integers(0, 120), st.integers(1, 20), st.integers(1, 60)


def samples(count: int, seed: int = 0, shards: int = 7) -> Samples:
    """Lognormal costs, and now and then one that costs as much as forty others."""
    random = np.random.default_rng(seed)
    cost = random.lognormal(6, 0.6, count).astype(np.int64) * np.where(random.random(count) < 0.01, 40, 1)
    keys = tuple(sorted(f"k{number}" for number in range(count)))
    return Samples(keys=keys, shard=random.integers(0, shards, count), cost=cost)


@settings(max_examples=60)
@given(count=counts, world=worlds, batch=batches, seed=st.integers(0, 2**62), epoch=st.integers(0, 50))
def test_every_sample_is_used_once_per_epoch_for_any_number_of_samples_ranks_and_batch_size(
    count: int, world: int, batch: int, seed: int, epoch: int
) -> None:
    """Fewer samples than ranks included; every rank has as many steps; steps are even, and none is above `batch`."""
    items = samples(count, seed % 5)
    epoch_plan = plan(items, seed=seed, epoch=epoch, batch=batch)
    assert len(epoch_plan) == -(-count // batch)
    sizes = [epoch_plan.size(step) for step in range(len(epoch_plan))]
    assert max(sizes, default=0) <= batch
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    shares = [epoch_plan.shares(rank, world) for rank in range(world)]
    assert {len(share) for share in shares} == {len(epoch_plan)}
    for step, size in enumerate(sizes):
        together = Counter(key for share in shares for key in share[step])
        assert together == Counter(items.keys[i] for i in epoch_plan.order[step] if i >= 0)
        assert together.total() == size
    assert sum((Counter(key for keys in share for key in keys) for share in shares), Counter()) == Counter(items.keys)


@settings(max_examples=30)
@given(
    count=counts,
    batch=batches,
    worlds=st.tuples(worlds, worlds, worlds),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_resumed_epoch_reads_exactly_the_rest(
    count: int, batch: int, worlds: tuple[int, int, int], cuts: tuple[float, float]
) -> None:
    """An epoch that is stopped twice, each time gone on with by another number of ranks."""
    epoch_plan = plan(samples(count), seed=1, epoch=2, batch=batch)
    one, two = sorted(int(cut * len(epoch_plan)) for cut in cuts)
    result: Counter[str] = Counter()
    for world, start, stop in zip(worlds, (0, one, two), (one, two, len(epoch_plan)), strict=True):
        for rank in range(world):
            for keys in epoch_plan.shares(rank, world, start=start)[: stop - start]:
                result.update(keys)
    assert result == Counter(epoch_plan.samples.keys)


def test_the_plan_depends_on_all_of_its_arguments_and_on_nothing_else() -> None:
    items = samples(200, shards=9)
    base = {"seed": 3, "epoch": 1, "batch": 8, "window": 2}
    assert np.array_equal(plan(items, **base).order, plan(items, **base).order)
    for other in ({"seed": 4}, {"epoch": 2}, {"batch": 9}, {"window": 3}):
        changed = plan(items, **{**base, **other}).order
        order = plan(items, **base).order
        assert changed.shape != order.shape or not np.array_equal(changed, order)


def test_no_more_than_two_windows_of_shards_are_open_at_a_time() -> None:
    """From the first use of a shard to its last lie the samples of two windows at most."""
    random = np.random.default_rng(0)
    shard = np.sort(random.integers(0, 40, 4000))
    items = Samples(keys=tuple(f"{i:05d}" for i in range(4000)), shard=shard, cost=np.ones(4000, np.int64))
    epoch_plan = plan(items, seed=0, epoch=0, batch=32, window=4)
    uses = [set(shard[row[row >= 0]].tolist()) for row in epoch_plan.order]
    first = {s: min(i for i, use in enumerate(uses) if s in use) for s in range(40)}
    last = {s: max(i for i, use in enumerate(uses) if s in use) for s in range(40)}
    assert max(sum(first[s] <= step <= last[s] for s in range(40)) for step in range(len(epoch_plan))) <= 8
    shard_order = epoch_plan.shards()
    assert sorted(shard_order) == list(range(40))
    assert [first[s] for s in shard_order] == sorted(first.values())
    assert set(epoch_plan.shards(start=len(epoch_plan) - 1)) == uses[-1]
    assert len(uses[0]) == 1, "an epoch begins when one shard is there"


@pytest.mark.parametrize("world", [2, 3, 7, 8, 48, 64])
@pytest.mark.parametrize(("sigma", "mean", "longest", "count"), [(0.6, 4.46, 34.1, 7_433), (0.567, 7.6, 109.0, 22_856)])
def test_the_costs_of_ranks_differ_by_less_than_one_per_cent(
    sigma: float, mean: float, longest: float, count: int, world: int
) -> None:
    """On the durations of IEMOCAP and CMU-MOSEI (lognormal fits), eight samples a rank: the slowest over the mean."""
    random = np.random.default_rng(world)
    seconds = np.minimum(random.lognormal(np.log(mean) - sigma**2 / 2, sigma, count), longest)
    seconds[0] = longest
    cost = (2304 * np.ceil(2 * seconds) + 4096 * np.ceil((1 + seconds * 80 // 1) / 32)).astype(np.int64)
    items = Samples(keys=tuple(f"{i:05d}" for i in range(count)), shard=np.arange(count) // 600, cost=cost)
    epoch_plan = plan(items, seed=0, epoch=0, batch=8 * world)
    load = np.zeros((len(epoch_plan), world))
    costs = np.where(epoch_plan.order >= 0, cost[epoch_plan.order], 0)
    np.add.at(load, (np.arange(len(epoch_plan))[:, None], epoch_plan.assigned_ranks(world)), costs)
    assert load.max(1).sum() / load.mean(1).sum() <= 1.01


@given(rows=st.integers(0, 4), items=st.integers(0, 40), ranks=st.integers(1, 12), seed=st.integers(0, 99))
def test_the_assignment_is_no_worse_than_longest_first_and_within_its_bound(
    rows: int, items: int, ranks: int, seed: int
) -> None:
    """Graham's bound for longest first: 4/3 - 1/(3 ranks) of the best, which is at least the mean and the longest."""
    cost = np.random.default_rng(seed).integers(0, 1000, (rows, items))
    result = deal(cost, ranks)
    assert result.shape == cost.shape
    for row, owner in zip(cost, result, strict=True):
        loads = [int(row[owner == rank].sum()) for rank in range(ranks)]
        simple = [0] * ranks
        for value in sorted(row.tolist(), reverse=True):
            simple[simple.index(min(simple))] += value
        assert max(loads) <= max(simple)
        assert sum(loads) == row.sum()


def test_epochs_and_seeds_have_different_orders() -> None:
    items = samples(50)
    orders = {plan(items, seed=seed, epoch=epoch, batch=4).order.tobytes() for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    assert len({derive_seed(0, "step", epoch, step) for epoch in range(30) for step in range(30)}) == 900


@given(keys=st.lists(st.text("abc012_", min_size=1, max_size=6), unique=True, max_size=40), batch=st.integers(1, 9))
def test_evaluation_reads_every_key_once_shard_by_shard(keys: list[str], batch: int) -> None:
    steps = sorted_batches(keys, lambda key: key[-1], batch=batch)
    assert [(key[-1], key) for step in steps for key in step] == sorted((key[-1], key) for key in keys)
    assert all(len(step) == batch for step in steps[:-1])

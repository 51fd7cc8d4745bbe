"""The order of an epoch. It is a pure function, so a position in it is two numbers on any number of ranks.

Shards are permuted and grouped into windows of `window` shards; samples are shuffled inside a window, so that readers
of remote shards need space for two windows only. The first windows of an epoch have 1, 2, 4, ... shards, so that it
starts when one shard is there; a shard contains random samples of the corpus, so the samples are mixed as well. The
order is cut into steps, which do not depend on the ranks. The samples of a step are dealt to the ranks, most costly
first, so that the shares cost the same; this is a pure function of the step and the number of ranks, so a run can
resume with another number of ranks after any step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

GROUP = 4  # steps that may exchange samples, so that no sample costs more than an even share of its step
MIN_PER_RANK = 8  # samples per share above which a step can be balanced without sorting samples by length
MAX_IMBALANCE = 1.002  # ratio of the most costly share to the mean, above which a deal is improved
MAX_SHARE_ITEMS = 48  # items per share, above which a deal is not improved
ROUNDS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The samples from which an epoch is planned, sorted by key.

    Attributes:
        keys: The key of each sample.
        shard: int64 (samples,), the number of its shard.
        cost: int64 (samples,), its computing cost in any unit.
    """

    keys: tuple[str, ...]
    shard: Ints
    cost: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan of an epoch. len() is the number of steps.

    Attributes:
        samples: The samples.
        order: int64 (steps, at most batch), indices of samples; -1 at the end of a step that is one sample shorter.
    """

    samples: Samples
    order: Ints

    def __len__(self) -> int:
        return len(self.order)

    def size(self, step: int) -> int:
        """The number of samples of a step over all ranks, by which its loss is divided."""
        return int((self.order[step] >= 0).sum())

    def shares(self, rank: int, world: int, *, start: int = 0) -> list[tuple[str, ...]]:
        """The keys of `rank` (of `world`) in each step from `start` on; a rank may have none in a step."""
        order = self.order[start:]
        is_own = (self.assigned_ranks(world, start=start) == rank) & (order >= 0)
        return [tuple(self.samples.keys[i] for i in row[own]) for row, own in zip(order, is_own, strict=True)]

    def assigned_ranks(self, world: int, *, start: int = 0) -> Ints:
        """The rank of each entry of `order` from step `start` on, int64 (steps, batch), including empty entries."""
        order = self.order[start:]
        return deal(np.where(order >= 0, self.samples.cost[order], 0), world)

    def shards(self, *, start: int = 0) -> list[int]:
        """The shards of the steps from `start` on, in the order of their first use."""
        order = self.order[start:].ravel()
        numbers, first = np.unique(self.samples.shard[order[order >= 0]], return_index=True)
        return [int(number) for number in numbers[np.argsort(first)]]


def plan(samples: Samples, *, seed: int, epoch: int, batch: int, ranks: int = 64, window: int = 16) -> Plan:
    """Plan an epoch: every sample once, in the fewest steps of at most `batch` samples, whose sizes differ by one.

    Args:
        samples: The samples of the epoch.
        seed: The seed of the run.
        epoch: The number of the epoch.
        batch: Samples per step over all ranks.
        ranks: Steps are composed so that this many ranks (and fewer, and somewhat more) can share them evenly.
        window: Shards per window.
    """
    random = np.random.default_rng(derive_seed(seed, "order", epoch))
    numbers, shard = np.unique(samples.shard, return_inverse=True)
    group = _windows(len(numbers), window)[random.permutation(len(numbers))[shard]]
    shuffled = np.lexsort((random.random(len(samples.keys)), group))
    steps = -(-len(shuffled) // batch)
    if not steps:
        return Plan(samples=samples, order=np.zeros((0, 0), np.int64))
    # Steps of equal size instead of full ones and a rest: in a step of a few samples most ranks would be idle.
    width, short = -(-len(shuffled) // steps), -len(shuffled) % steps
    order = np.full((steps, width), -1)
    full = steps - short
    order[:full] = shuffled[: full * width].reshape(full, width)
    order[full:, : width - 1] = shuffled[full * width :].reshape(short, width - 1)
    _balance_steps(order[:, : width - 1] if short else order, samples.cost, min(ranks, batch // MIN_PER_RANK))
    return Plan(samples=samples, order=order)


def _windows(shards: int, window: int) -> Ints:
    """The window of each shard in the order of the epoch, int64 (shards,); sizes 1, 2, 4, ..., `window`."""
    sizes: list[int] = []
    while sum(sizes) < shards:
        sizes.append(min(2 ** len(sizes), window))
    return np.repeat(np.arange(len(sizes)), sizes)[:shards]


def _balance_steps(order: Ints, cost: Ints, ranks: int) -> None:
    """Exchange samples between neighbouring steps, in place, where a sample costs more than a rank's even share.

    No deal can balance such a step. It gets as many of the most costly samples of its group of steps as make the shares
    large enough. Groups without such a sample (nearly all) are not changed.
    """
    if ranks < 2:
        return
    for first in range(0, len(order), GROUP):
        block = order[first : first + GROUP]
        longest = cost[block].max(axis=1)
        if (longest * ranks <= cost[block].sum(axis=1)).all():
            continue
        step, width, flat = int(longest.argmax()), block.shape[1], block.ravel()
        by_cost = flat[np.argsort(-cost[flat], kind="stable")]
        for count in range(1, width + 1):
            taken = by_cost[:count]
            taken = np.concatenate([taken, flat[~np.isin(flat, taken)][: width - count]])
            if cost[taken].sum() >= ranks * longest[step]:
                break
        rest = flat[~np.isin(flat, taken)].reshape(-1, width)
        block[:] = np.insert(rest, step, taken, axis=0)


def deal(cost: Ints, ranks: int) -> Ints:
    """Deal the items of each row to `ranks`, so that the most costly share is small.

    Most costly item first, each to the rank with the least total so far (Graham 1969), in all rows at once; then
    `_even_out`.

    Args:
        cost: int64 (rows, items), not negative.
        ranks: The number of ranks.

    Returns:
        The rank of each item, int64 (rows, items).
    """
    rows, items = cost.shape
    rank_of = np.zeros_like(cost)
    if ranks == 1 or not items:
        return rank_of
    row, load = np.arange(rows), np.zeros((rows, ranks), np.int64)
    for item in np.argsort(-cost, axis=1, kind="stable").T:
        target = load.argmin(axis=1)
        rank_of[row, item] = target
        load[row, target] += cost[row, item]
    if items > ranks:
        _even_out(cost, rank_of, load)
    return rank_of


def _even_out(cost: Ints, rank_of: Ints, load: Ints) -> None:
    """Improve a deal in place: pair ranks of high and of low load in each row, and exchange items between them.

    Each pair exchanges two items, or moves one, so that their loads differ least; then new pairs are formed. Does
    nothing if a share has more than MAX_SHARE_ITEMS items.

    Args:
        cost: (rows, items).
        rank_of: (rows, items), the rank of each item.
        load: (rows, ranks), the cost of each share.
    """
    rows, ranks = load.shape
    order = np.argsort(rank_of, axis=1, kind="stable")
    owner = np.take_along_axis(rank_of, order, axis=1)
    counts = np.zeros((rows, ranks), np.int64)
    np.add.at(counts, (np.arange(rows)[:, None], rank_of), 1)
    width = int(counts.max(initial=0)) + 1
    if width > MAX_SHARE_ITEMS:
        return
    slot = np.arange(cost.shape[1]) - np.take_along_axis(counts.cumsum(axis=1) - counts, owner, axis=1)
    item = np.full((rows, ranks, width), -1)  # the items of each share; -1: an empty slot of cost 0
    item[np.arange(rows)[:, None], owner, slot] = order
    price = np.where(item >= 0, cost[np.arange(rows)[:, None, None], item], 0)
    half = ranks // 2
    for turn in range(ROUNDS):
        row = np.flatnonzero(load.max(axis=1) * ranks > MAX_IMBALANCE * load.sum(axis=1))[:, None]
        if not len(row):
            break
        by_load = np.argsort(load[row[:, 0]], axis=1, kind="stable")
        light, heavy = np.roll(by_load[:, :half], -(turn % 4), axis=1), by_load[:, ::-1][:, :half]
        gap = load[row, heavy] - load[row, light]
        moved = price[row, heavy][..., :, None] - price[row, light][..., None, :]  # (row, half, width, width)
        left = np.abs(gap[..., None, None] - 2 * moved).reshape(*gap.shape, width * width)
        best = left.argmin(axis=2)
        at, pair = np.nonzero(np.take_along_axis(left, best[..., None], axis=2)[..., 0] < gap)
        give, take = np.divmod(best[at, pair], width)
        one, two = (row[at, 0], heavy[at, pair], give), (row[at, 0], light[at, pair], take)
        change = price[one] - price[two]
        load[one[:2]] -= change
        load[two[:2]] += change
        item[one], item[two] = item[two], item[one]
        price[one], price[two] = price[two], price[one]
    at, rank, index = np.nonzero(item >= 0)
    rank_of[at, item[at, rank, index]] = rank


def sorted_batches(keys: Sequence[str], shard: Callable[[str], str], *, batch: int) -> list[tuple[str, ...]]:
    """Every key once in batches, sorted by shard and key: for evaluation."""
    names = sorted(keys, key=lambda key: (shard(key), key))
    return [tuple(names[start : start + batch]) for start in range(0, len(names), batch)]


def derive_seed(seed: int, *purpose: int | str) -> int:
    """A seed of 63 bits for one purpose, independent of all earlier random numbers."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1

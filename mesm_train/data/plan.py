"""The order of an epoch: a pure function, so that a position in it is two numbers on any number of ranks.

Shards are permuted and taken `window` at a time; samples are shuffled inside such a window, so that a reader of remote
shards needs room for two windows only. The first windows of an epoch have 1, 2, 4, ... shards, so that it begins when
one shard is there; a shard holds random samples of the corpus, so nothing is less mixed for it. The order is cut into
steps, the same whoever reads. The samples of a step are dealt to the ranks, longest first, so that the shares cost the
same; that is a pure function of the step and of the number of ranks, so a run may go on with another number of them
after any step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

GROUP = 4  # steps that may exchange samples, so that the longest sample of a step costs no more than an even share
PER_RANK = 8  # samples of a share from which a step can be even without sorting the samples by length
EVEN = 1.002  # the most costly share over the mean from which a deal is improved
WIDEST = 48  # items of a share up to which it is
ROUNDS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What an epoch is planned from, a row a sample, sorted by key: `keys`, int64 `shard` (its number), int64 `cost`.

    The unit of the cost is free; only ratios count.
    """

    keys: tuple[str, ...]
    shard: Ints
    cost: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An epoch. `order`: int64 (steps, at most batch), rows of `samples`, -1 at the end of a step that is one shorter.

    len() is the number of steps.
    """

    samples: Samples
    order: Ints

    def __len__(self) -> int:
        return len(self.order)

    def size(self, step: int) -> int:
        """The samples of a step, over all ranks: what its loss is divided by."""
        return int((self.order[step] >= 0).sum())

    def shares(self, rank: int, world: int, *, start: int = 0) -> list[tuple[str, ...]]:
        """The keys of each step from `start` on that fall to `rank` of `world`; a step may have none for a rank."""
        order = self.order[start:]
        mine = (self.dealt(world, start=start) == rank) & (order >= 0)
        return [tuple(self.samples.keys[i] for i in row[own]) for row, own in zip(order, mine, strict=True)]

    def dealt(self, world: int, *, start: int = 0) -> Ints:
        """The rank of each place of `order` from step `start` on, int64 (steps, batch); of empty places too."""
        order = self.order[start:]
        return deal(np.where(order >= 0, self.samples.cost[order], 0), world)

    def shards(self, *, start: int = 0) -> list[int]:
        """The shards that the steps from `start` on need, in the order of their first use."""
        order = self.order[start:].ravel()
        numbers, first = np.unique(self.samples.shard[order[order >= 0]], return_index=True)
        return [int(number) for number in numbers[np.argsort(first)]]


def plan(samples: Samples, *, seed: int, epoch: int, batch: int, ranks: int = 64, window: int = 16) -> Plan:
    """The plan of an epoch: every sample once, in as few steps of at most `batch` as hold them, even to one sample.

    `ranks`: the steps are composed so that so many can share them evenly (and fewer, and somewhat more).
    """
    random = np.random.default_rng(derived(seed, "order", epoch))
    numbers, shard = np.unique(samples.shard, return_inverse=True)
    group = _windows(len(numbers), window)[random.permutation(len(numbers))[shard]]
    line = np.lexsort((random.random(len(samples.keys)), group))
    steps = -(-len(line) // batch)
    if not steps:
        return Plan(samples=samples, order=np.zeros((0, 0), np.int64))
    # Not full steps and a rest: a step of a few samples keeps most of the ranks waiting for the others.
    width, short = -(-len(line) // steps), -len(line) % steps
    order = np.full((steps, width), -1)
    full = steps - short
    order[:full] = line[: full * width].reshape(full, width)
    order[full:, : width - 1] = line[full * width :].reshape(short, width - 1)
    _make_room(order[:, : width - 1] if short else order, samples.cost, min(ranks, batch // PER_RANK))
    return Plan(samples=samples, order=order)


def _windows(shards: int, window: int) -> Ints:
    """The window of each place in the order of shards, int64 (shards,): of 1, 2, 4, ... and then `window` shards."""
    sizes: list[int] = []
    while sum(sizes) < shards:
        sizes.append(min(2 ** len(sizes), window))
    return np.repeat(np.arange(len(sizes)), sizes)[:shards]


def _make_room(order: Ints, cost: Ints, ranks: int) -> None:
    """Exchange samples between neighbouring steps, in place, where one of them costs more than a rank's even share.

    No deal can balance such a step. It takes as many of the longest samples of its group of steps as make the shares
    long enough; the groups without such a sample, nearly all, stay as they are.
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
    """Deal the items of each row to `ranks`, so that the most costly share is as small as we can make it.

    Longest first, each to the rank that has least so far (Graham 1969), in all rows at once; then `_even_out`.

    Args:
        cost: int64 (rows, items), 0 or more.
        ranks: at least 1.

    Returns:
        int64 (rows, items): the rank of each item.
    """
    rows, items = cost.shape
    found = np.zeros_like(cost)
    if ranks == 1 or not items:
        return found
    place, load = np.arange(rows), np.zeros((rows, ranks), np.int64)
    for item in np.argsort(-cost, axis=1, kind="stable").T:
        to = load.argmin(axis=1)
        found[place, item] = to
        load[place, to] += cost[place, item]
    if items > ranks:
        _even_out(cost, found, load)
    return found


def _even_out(cost: Ints, found: Ints, load: Ints) -> None:
    """Pair the ranks of each row, one that has much with one that has little, and exchange items; in place.

    A pair makes the one exchange of two items, or of an item and nothing, that evens it out best; then pairs are made
    anew. `cost` and `found` are (rows, items), `load` is (rows, ranks). Shares of more than WIDEST items stay.
    """
    rows, ranks = load.shape
    order = np.argsort(found, axis=1, kind="stable")
    owner = np.take_along_axis(found, order, axis=1)
    counts = np.zeros((rows, ranks), np.int64)
    np.add.at(counts, (np.arange(rows)[:, None], found), 1)
    width = int(counts.max(initial=0)) + 1
    if width > WIDEST:
        return
    slot = np.arange(cost.shape[1]) - np.take_along_axis(counts.cumsum(axis=1) - counts, owner, axis=1)
    item = np.full((rows, ranks, width), -1)  # the items of each share; -1: a free place, which costs nothing
    item[np.arange(rows)[:, None], owner, slot] = order
    price = np.where(item >= 0, cost[np.arange(rows)[:, None, None], item], 0)
    half = ranks // 2
    for turn in range(ROUNDS):
        row = np.flatnonzero(load.max(axis=1) * ranks > EVEN * load.sum(axis=1))[:, None]
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
    at, rank, place = np.nonzero(item >= 0)
    found[at, item[at, rank, place]] = rank


def in_order(keys: Sequence[str], shard: Callable[[str], str], *, batch: int) -> list[tuple[str, ...]]:
    """Every key exactly once, sorted, one shard after the other: for evaluation."""
    names = sorted(keys, key=lambda key: (shard(key), key))
    return [tuple(names[start : start + batch]) for start in range(0, len(names), batch)]


def derived(seed: int, *place: int | str) -> int:
    """A seed of 63 bits for one place of a run: the same whatever was drawn before it."""
    text = "/".join(map(str, (seed, *place)))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1

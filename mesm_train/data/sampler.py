"""Which utterances an epoch has, and how often: the step before the plan, and like it a pure function.

`plain` needs nothing of this: every utterance comes once an epoch. `class-balanced` draws as many utterances as the
train part has, of each class the same number. It is a function of (seed, epoch), so a resumed run continues exactly.
In an epoch the utterances of one class are drawn equally often, but for one draw; a frequent class leaves some out,
which other epochs draw.
"""

import numpy as np
from numpy.typing import NDArray

from mesm_train.data.plan import Ints, Samples, derive_seed


def class_groups(labels: NDArray[np.float32]) -> Ints:
    """The group of each utterance: its class; of several the rarest; one group more for those of no class.

    Args:
        labels: (n, classes), 0 or 1.

    Returns:
        int64 (n,), from 0 to the number of classes.
    """
    counts = labels.sum(axis=0)
    rarity = np.argsort(np.argsort(counts, kind="stable"), kind="stable")  # 0: the rarest class
    order = np.where(labels > 0, rarity, len(counts))
    return np.where(labels.any(axis=1), order.argmin(axis=1), len(counts)).astype(np.int64)


def draw_weights(groups: Ints | None, count: int) -> NDArray[np.float64]:
    """How often an epoch draws each of `count` utterances on average, (count,); once each without groups."""
    if groups is None:
        return np.ones(count)
    _, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(len(groups) / len(sizes) / sizes[place])


def balanced(samples: Samples, groups: Ints, *, seed: int, epoch: int) -> Samples:
    """The utterances of an epoch, as many as `samples` has, of each group the same number, but for one.

    Args:
        samples: The train part.
        groups: int64 (n,), of each of them.
        seed: The run's.
        epoch: Counted from 0.

    Returns:
        Samples sorted by key, in which a key may stand several times, or not at all.
    """
    random = np.random.default_rng(derive_seed(seed, "sampler", epoch))
    present = random.permutation(np.unique(groups))
    quotas = np.full(len(present), len(groups) // len(present))
    quotas[: len(groups) % len(present)] += 1
    drawn = []
    for group, quota in zip(present, quotas, strict=True):
        members = random.permutation(np.flatnonzero(groups == group))
        drawn.append(np.resize(members, quota))
    chosen = np.sort(np.concatenate(drawn))
    return Samples(
        keys=tuple(samples.keys[index] for index in chosen), shard=samples.shard[chosen], cost=samples.cost[chosen]
    )

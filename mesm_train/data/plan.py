"""The order of an epoch: a pure function of keys, seed, epoch and batch, so a position in it is two numbers."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np


def steps(keys: Sequence[str], *, seed: int, epoch: int, batch: int) -> list[tuple[str, ...]]:
    """Every key exactly once, in steps of `batch` (the last may be smaller), shuffled by (seed, epoch)."""
    order = np.random.default_rng(derived(seed, "order", epoch)).permutation(len(keys))
    names = sorted(keys)
    return [tuple(names[index] for index in order[start : start + batch]) for start in range(0, len(names), batch)]


def in_order(keys: Sequence[str], *, batch: int) -> list[tuple[str, ...]]:
    """Every key exactly once, sorted: for evaluation."""
    names = sorted(keys)
    return [tuple(names[start : start + batch]) for start in range(0, len(names), batch)]


def derived(seed: int, *place: int | str) -> int:
    """A seed of 63 bits for one place of a run: the same whatever was drawn before it."""
    text = "/".join(map(str, (seed, *place)))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1

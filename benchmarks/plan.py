"""How long an epoch's plan takes, and how even the ranks' shares are: the slowest rank over the mean, step by step.

    python benchmarks/plan.py [--seeds 5]

Durations are lognormal with the published figures of the corpora (synthetic draws, not the corpora): IEMOCAP mean
4.46 s, between 0.585 and 34.1 s (sigma 0.6: a median of 3.7 s); CMU-MOSEI mean 7.60 s, median 6.47 s, at most 109 s.
The longest one is in every draw. A sample costs what the model reads of it: a face per 500 ms, a piece of sound per
400 ms, by the number of their pixels. max/mean is the sum over an epoch's steps of the most costly share, over the sum
of the mean shares: the epoch's time over that of a perfect deal.
"""

import argparse
import time

import numpy as np

from mesm_train.data.costs import FACE, PIECE
from mesm_train.data.plan import Plan, Samples, plan

CORPORA = {"iemocap": (7_433, 4.46, 0.60, 0.585, 34.1), "mosei": (22_856, 7.60, 0.567, 0.3, 109.0)}


def draw(name: str, seed: int, count: int | None = None) -> Samples:
    """Samples with the durations of a corpus, 600 to a shard."""
    own, mean, sigma, least, most = CORPORA[name]
    count = count or own
    random = np.random.default_rng(seed)
    seconds = np.clip(random.lognormal(np.log(mean) - sigma**2 / 2, sigma, count), least, most)
    seconds[0] = most
    faces, pieces = np.ceil(2 * seconds), np.ceil((1 + seconds * 80 // 1) / 32)
    return Samples(
        keys=tuple(f"{number:06d}" for number in range(count)),
        shard=np.arange(count) // 600,
        cost=(FACE * faces + PIECE * pieces).astype(np.int64),
    )


def slowest_share(epoch_plan: Plan, world: int) -> tuple[float, float]:
    """The sum of the slowest shares over that of the mean shares, and the 95th percentile of that ratio by step.

    A last step that is not full is left out of the percentile and counted in the sum.
    """
    cost = np.where(epoch_plan.order >= 0, epoch_plan.samples.cost[epoch_plan.order], 0)
    load = np.zeros((len(cost), world))
    np.add.at(load, (np.arange(len(cost))[:, None], epoch_plan.assigned_ranks(world)), cost)
    return load.max(1).sum() / load.mean(1).sum(), float(np.percentile(load.max(1) / load.mean(1), 95))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    for batch in (512, 64, 8):
        samples = draw("iemocap", 0, 100_000)
        start = time.perf_counter()
        epoch_plan = plan(samples, seed=0, epoch=0, batch=batch)
        planning = time.perf_counter() - start
        epoch_plan.assigned_ranks(64)
        assignment = time.perf_counter() - start - planning
        print(
            f"100000 samples, global batch {batch}: planned in {planning:.2f} s, "
            f"assigned to 64 ranks in {assignment:.2f} s"
        )
    print("max/mean (95th percentile of the steps), mean of the seeds; 8 samples a rank and step")
    for name in CORPORA:
        for world in (2, 4, 8, 16, 32, 64, 3, 5, 6, 7, 12, 24, 48, 96, 128):
            ratios = [
                slowest_share(plan(draw(name, seed), seed=seed, epoch=0, batch=8 * world), world)
                for seed in range(seeds)
            ]
            worst = max(total for total, _ in ratios)
            total, high = np.mean(ratios, axis=0)
            print(f"{name:8} {world:4} ranks  {total:.4f} ({high:.4f})  worst seed {worst:.4f}")


if __name__ == "__main__":
    main()

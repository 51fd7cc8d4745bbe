"""What a step would cost on 8 to 1024 ranks: simulated from the plan's real shares and measured costs.

    python benchmarks/scale.py [--speedup 300] [--bandwidth 12.5] [--latency 20]

Measured here, as CPU time of one thread: forward and backward pass of the published dense model for a million pixels
(faces and pieces of sound), and an update of the optimizer. Simulated: a step takes as long as the most costly share of
the plan, then the exchange of the loss and the sum of the gradients (37 M numbers with ALBERT, all after the backward
pass), as a ring: 2 (R - 1) / R of the bytes over the bandwidth, and 2 (R - 1) latencies a bucket. --speedup is how much
faster a rank computes than one thread of this processor: an assumption, as are the network's figures. Not simulated:
ranks that differ in speed, a network that others use, storage.
"""

import argparse
import time

import numpy as np
import torch

from mesm_data.media.wav import SAMPLE_RATE
from mesm_train.config.model_settings import ModelSettings
from mesm_train.data.batch import Batch
from mesm_train.data.costs import FACE, PIECE
from mesm_train.data.mel import piece_counts_of
from mesm_train.data.plan import Samples, plan
from mesm_train.models.fe2e_mesm import Model

PARAMETERS = 37_000_000
BUCKETS = 5
RANKS = (8, 16, 32, 64, 128, 256, 512, 1024)
PER_RANK = 8


def measured() -> tuple[float, float]:
    """Seconds for a million pixels, forward and backward; seconds of the optimizer for PARAMETERS."""
    model = Model(ModelSettings(modalities=("v", "a")))
    optimizer = torch.optim.AdamW(model.parameters())
    lengths = torch.tensor([4 * SAMPLE_RATE])
    batch = Batch(
        keys=("x",),
        faces=torch.randint(0, 256, (8, 48, 48, 3), dtype=torch.uint8),
        face_counts=torch.tensor([8]),
        samples=torch.randint(-9000, 9000, (4 * SAMPLE_RATE,), dtype=torch.int16),
        sample_counts=lengths,
        tokens=torch.zeros(1, 0, dtype=torch.int64),
        token_counts=torch.zeros(1, dtype=torch.int64),
        labels=torch.zeros(1, 6),
    )
    pixels = 8 * FACE + int(piece_counts_of(lengths)) * PIECE
    passes, updates = [], []
    for _ in range(3):
        began = time.process_time()
        model(batch).sum().backward()
        between = time.process_time()
        optimizer.step()
        passes.append(between - began)
        updates.append(time.process_time() - between)
    held = sum(p.numel() for p in model.parameters())
    return min(passes) / pixels * 1e6, min(updates) * PARAMETERS / held


def drawn(count: int) -> Samples:
    """Samples with lognormal durations of CMU-MOSEI's mean and median (see plan.py)."""
    seconds = np.minimum(np.random.default_rng(0).lognormal(np.log(6.47), 0.567, count), 109)
    pieces = np.ceil((1 + seconds * 80 // 1) / 32)
    return Samples(
        keys=tuple(f"{number:07d}" for number in range(count)),
        shard=np.arange(count) // 600,
        cost=(FACE * np.ceil(2 * seconds) + PIECE * pieces).astype(np.int64),
    )


def main() -> None:
    """Measure, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speedup", type=float, default=300.0, help="of a rank over this processor (assumed)")
    parser.add_argument("--bandwidth", type=float, default=12.5, help="GB/s between two ranks (assumed: 100 Gbit/s)")
    parser.add_argument("--latency", type=float, default=20.0, help="microseconds of a message (assumed)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pixels, optimizer = measured()
    print(
        f"measured: {pixels:.2f} s a million pixels, {optimizer:.3f} s an update; a rank is {options.speedup:g} x that"
    )
    print("ranks  batch  slowest share  sum of gradients  step      busy  samples/s   (8 samples a rank and step)")
    for ranks in RANKS:
        made = plan(drawn(40 * PER_RANK * ranks), seed=0, epoch=0, batch=PER_RANK * ranks)
        load = np.zeros((len(made), ranks))
        cost = np.where(made.order >= 0, made.samples.cost[made.order], 0)
        np.add.at(load, (np.arange(len(made))[:, None], made.dealt(ranks)), cost)
        compute = pixels / 1e6 / options.speedup
        slowest, mean = load.max(1).mean() * compute, load.mean() * compute
        messages = (2 * BUCKETS + 1) * (ranks - 1) * options.latency * 1e-6
        reduce = 2 * (ranks - 1) / ranks * 4 * PARAMETERS / (options.bandwidth * 1e9) + messages
        step = slowest + reduce + optimizer / options.speedup
        print(
            f"{ranks:5} {PER_RANK * ranks:6} {slowest * 1e3:11.1f} ms {reduce * 1e3:14.1f} ms {step * 1e3:8.1f} ms "
            f"{mean / step:6.0%} {PER_RANK * ranks / step:10.0f}   slowest/mean {slowest / mean:.3f}"
        )


if __name__ == "__main__":
    main()

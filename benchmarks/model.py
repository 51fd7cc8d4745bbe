"""Seconds of the convolutional streams of FE2E and MESM, forward and forward + backward, side by side in one run.

Input: 72 random faces and 96 random pieces of sound (8 utterances of 4.5 s; --utterances for fewer), published widths,
fresh initialisation.
Variants are run in turn, so that whatever else the machine does falls on all alike; medians and their ratios to the
dense stacks as torch's own layers compute them (`dense`, NCHW). Operations are counted by mesm_train/models/flops.py.

    OMP_NUM_THREADS=2 python benchmarks/model.py [--rounds 5] [--p .8 .5] [--tile 1 4] [--device cuda --precision bf16]

Sparse blocks have the published selection, or with --selection gate that one. Tiles are chosen by fresh attention,
which scatters them, or with --prior also by the importance that a trained run in tiles has learned.

On a machine that does other work, --cpu-time with OMP_NUM_THREADS=1 counts the processor's seconds, not the clock's.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from variants.streams import SIZES, Plain, inputs, variants

from mesm_train.config.model_settings import ModelSettings
from mesm_train.data.device import configure_backends
from mesm_train.models.flops import active_pairs
from mesm_train.models.streams import Stack, take_turns
from mesm_train.training import throughput
from mesm_train.training.allocator import keep_freed_memory
from mesm_train.training.optimizer import autocast


class Case:
    """Both streams of a variant."""

    def __init__(
        self, name: str, make: Callable[[str], nn.Module], device: torch.device, options: argparse.Namespace
    ) -> None:
        torch.manual_seed(0)
        self.name, self.device, self.precision = name, device, options.precision
        self.clock = time.process_time if options.cpu_time else time.perf_counter
        self.stacks = {m: make(m).to(device).train() for m in SIZES}
        self.last = name.startswith("dense, channels_last")
        self.forward: list[float] = []
        self.both: list[float] = []
        self.memory_gb = 0.0  # the most that was in use on a card
        self.card = 0.0  # seconds that a card works for a step, see `watch_card`
        self.launches = 0  # of a step

    def step(self, data: dict[str, tuple[Tensor, Tensor]]) -> None:
        """One forward and backward pass, timed."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = self._now()
        total = torch.zeros((), device=self.device)
        with autocast(self.device, self.precision):
            for vectors in self._vectors(data):
                total = total + vectors.float().square().sum()
        middle = self._now()
        total.backward()
        ended = self._now()
        for stack in self.stacks.values():
            stack.zero_grad()
        if self.device.type == "cuda":
            self.memory_gb = throughput.peak_memory_gb(self.device)
        self.forward.append(middle - began)
        self.both.append(ended - began)

    def watch_card(self, data: dict[str, tuple[Tensor, Tensor]]) -> None:
        """A step whose kernels, copies and fills on a card are added up: what is left of its time is the host's."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            self.step(data)
        work = [e for e in profile.events() or () if e.device_type == torch.profiler.DeviceType.CUDA]
        self.card, self.launches = sum(event.time_range.elapsed_us() for event in work) / 1e6, len(work)

    def _vectors(self, data: dict[str, tuple[Tensor, Tensor]]) -> list[Tensor]:
        layout = torch.channels_last if self.last else torch.contiguous_format
        if self.name.startswith("dense"):
            return [stack(data[m][0].contiguous(memory_format=layout)) for m, stack in self.stacks.items()]
        steps = [stack.steps(*data[m]) for m, stack in self.stacks.items() if isinstance(stack, Stack)]
        return [vectors for vectors, _ in take_turns(steps)]

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return self.clock()


@torch.no_grad()
def operations(case: Case, data: dict[str, tuple[Tensor, Tensor]]) -> tuple[float, str]:
    """Multiply-adds of the convolutions over the dense stacks', and the share of sites that each block keeps."""
    settings = ModelSettings()
    total = dense = 0
    words = []
    for m, stack in case.stacks.items():
        _, (height, width), _ = SIZES[m]
        count = len(data[m][0])
        first = settings.channels[0]
        stem = count * height * width * first * (25 * SIZES[m][0] + 4 * 9 * first // 4)
        total, dense = total + stem, dense + stem
        selections = [] if isinstance(stack, Plain) else stack(*data[m])[1]
        for n, (i, o) in enumerate(zip(settings.channels, settings.channels[1:], strict=False), 1):
            full = count * (height >> n) * (width >> n) * 9
            dense += full * (i * o + o * o)
            total += (active_pairs(selections[n - 1].kept) if selections else full) * (i * o + o * o)
        words.append(
            f"{m} " + " ".join(f"{float(t.kept.float().mean()):.2f}" for t in selections) if selections else ""
        )
    return total / dense, ", ".join(word for word in words if word)


def main() -> None:
    """Measure and print."""
    options = parse_options()
    device = torch.device(options.device)
    configure_backends(device, options.precision)
    engines = options.engines or ["torch", "cpp" if device.type == "cpu" else "auto"]
    keep_freed_memory()
    data = inputs(device, options.utterances)
    makers = variants(options, engines)
    if options.memory:
        print_peak(Case(options.memory, makers[options.memory], device, options), data)
        return
    names = [name for name in makers if name == "dense" or any(part in name for part in options.only)]
    cases = [Case(name, makers[name], device, options) for name in names]
    measure(cases, data, options.rounds)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, load {load}, "
          f"{options.rounds} rounds, {options.utterances} utterances, "
          f"{device}, {options.precision}, {'CPU' if options.cpu_time else 'wall'} seconds")  # fmt: skip
    rows = print_table(cases, data, options)
    if options.json is not None:
        options.json.write_text(json.dumps(rows))


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--p", type=float, nargs="+", default=[0.8, 0.5])
    parser.add_argument("--tile", type=int, nargs="+", default=[1])
    parser.add_argument("--selection", default="published", choices=["published", "gate", "straight"])
    parser.add_argument("--prior", metavar="FILE", help="model.safetensors of a run with such tiles")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--utterances", type=int, default=8)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--memory", metavar="VARIANT", help="print the peak memory of three steps of one variant only")
    parser.add_argument("--only", nargs="+", default=[""], help="dense, and variants whose names contain any of these")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "tf32", "bf16", "fp16"])
    parser.add_argument("--engines", nargs="+", help="default: torch and cpp on a CPU, torch and auto on a card")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows of the table there too")
    return parser.parse_args()


def measure(cases: list[Case], data: dict[str, tuple[Tensor, Tensor]], rounds: int) -> None:
    """Run the variants in turn, after a first turn that fills caches and compiles."""
    for turn in range(rounds + 1):
        for case in cases:
            case.step(data)
        if turn == 0:
            for case in cases:
                case.forward.clear(), case.both.clear()
    for case in cases:
        if case.device.type == "cuda":
            case.watch_card(data)
            case.forward.pop(), case.both.pop()


def print_table(
    cases: list[Case], data: dict[str, tuple[Tensor, Tensor]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row a variant; returns the rows."""
    print(f"{'':28}{'forward':>9}{'f + b':>8}{'ratios to dense':>18}{'MAC':>7}{'peak GB':>9}{'card':>9}"
          f"{'launches':>9}  kept by block")  # fmt: skip
    base, rows = cases[0], list[dict[str, Any]]()
    for case in cases:
        forward, both = median(case.forward), median(case.both)
        ratio, kept = operations(case, data)
        on_card = case.device.type == "cuda"
        memory = case.memory_gb if on_card else None if options.only != [""] else peak(case.name, options)
        rows.append({
            "variant": case.name, "forward": forward, "both": both, "forward_ratio": forward / median(base.forward),
            "both_ratio": both / median(base.both), "mac_ratio": ratio, "peak_gb": memory, "kept": kept,
            "card": case.card or None, "launches": case.launches or None,
        })  # fmt: skip
        card = (f"{case.card:.4f}", f"{case.launches}") if on_card else ("-", "-")
        print(f"{case.name:28}{forward:9.4f}{both:8.4f}{rows[-1]['forward_ratio']:9.3f}{rows[-1]['both_ratio']:9.3f}"
              f"{ratio:7.3f}{'-' if memory is None else f'{memory:.2f}':>9}{card[0]:>9}{card[1]:>9}  {kept}",
              flush=True)  # fmt: skip
    return rows


def print_peak(case: Case, data: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Print the peak memory of this process in three steps, in GB."""
    for _ in range(3):
        case.step(data)
    status = Path("/proc/self/status").read_text()  # getrusage would start from the parent's
    print(f"{int(status.split('VmHWM:')[1].split()[0]) / 2**20:.2f}")


def peak(name: str, options: argparse.Namespace) -> float:
    """The peak memory of a process of its own, in GB."""
    command = [sys.executable, __file__, "--memory", name, "--utterances", str(options.utterances)]
    command += ["--p", *map(str, options.p), "--tile", *map(str, options.tile)]
    command += ["--selection", options.selection, "--precision", options.precision]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()

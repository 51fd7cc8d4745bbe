"""Trainings from shards on the device: the loss curve beside the CPU's, a kill and --resume, two ranks on one card."""

import json
import math
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from options import ROOT, Options, Result, environment, run, set_options, train_command

BINS = 20  # points of a loss curve in the report
THREADS = str(max(1, (os.cpu_count() or 1) // 8))  # of each training, so that a CPU's are the same bits
FEW = 5  # steps for which two devices are compared one by one, before rounding has grown


def updates(options: Options) -> int:
    """How long each training is, about: epochs are whole."""
    return 12 if options.quick else 200


def arguments(options: Options, kind: str, out: Path, device: str) -> list[object]:
    """A small model without dropout, whose random numbers would differ between devices."""
    import yaml

    parts = yaml.safe_load((options.kit / "split.yaml").read_text())
    epochs = math.ceil(updates(options) / math.ceil(len(parts["train"]) / 8))
    sets = {
        "device": device, "split": options.kit / "split.yaml", "model.dropout": 0, "optim.batch": 8,
        "optim.epochs": epochs, "optim.patience": 0, "text.encoder": "tiny", "report.media": "false",
    }  # fmt: skip
    return ["run", f"demo-{kind}", "--data", options.kit / "shards", "--out", out, *set_options(sets)]


def losses(run_folder: Path) -> dict[int, float]:
    """The loss by update, and a ValueError if one is there twice."""
    losses_by_step: dict[int, float] = {}
    for record in records(run_folder):
        if record["step"] in losses_by_step:
            raise ValueError(f"{run_folder.name}: update {record['step']} is in metrics.jsonl twice")
        losses_by_step[record["step"]] = record["loss"]
    return losses_by_step


def records(run_folder: Path) -> list[dict[str, Any]]:
    """The lines of the updates in metrics.jsonl."""
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "train"]


def written_updates(run_folder: Path) -> int:
    """How many updates metrics.jsonl has."""
    return len(records(run_folder)) if (run_folder / "metrics.jsonl").exists() else 0


def first_gap(one: dict[int, float], other: dict[int, float]) -> float:
    """The largest relative difference of the first losses."""
    return max(abs(other[step] / one[step] - 1) for step in [*other][:FEW])


def compare(one: dict[int, float], other: dict[int, float]) -> Result:
    """The largest difference of the first losses and of all, relative, and the ratio of the last fifth's means."""
    if not one or list(one) != list(other):
        raise ValueError(f"{len(one)} and {len(other)} updates: not the same ones")
    gaps = [abs(other[step] / one[step] - 1) for step in one]
    last = list(one)[-max(len(one) // 5, 1) :]
    ratio = sum(other[step] for step in last) / sum(one[step] for step in last)
    return {"updates": len(one), "first_gap": first_gap(one, other), "largest_gap": max(gaps), "end_ratio": ratio}


def curve(values: list[float]) -> list[float]:
    """Means of at most BINS equal pieces."""
    size = math.ceil(len(values) / BINS)
    pieces = [values[i : i + size] for i in range(0, len(values), size)]
    return [round(sum(piece) / len(piece), 4) for piece in pieces]


def training(options: Options) -> Result:
    """FE2E and MESM on the device and on the CPU, all at once."""
    places = {
        (kind, where): options.work / f"{kind}-{where}" for kind in ("fe2e", "mesm") for where in ("device", "cpu")
    }
    started = {}
    for (kind, where), out in places.items():
        device = options.device if where == "device" else "cpu"
        command = train_command(*arguments(options, kind, out, device))
        with (options.work / f"{out.name}.log").open("w") as log:
            started[out] = subprocess.Popen(
                command, env=environment(options.kit, OMP_NUM_THREADS=THREADS), cwd=ROOT, stdout=log, stderr=log
            )
    codes = {out: process.wait() for out, process in started.items()}
    result: Result = {"passed": True, "rows": [], "curves": {}}
    for kind in ("fe2e", "mesm"):
        outs = [places[kind, where] for where in ("cpu", "device")]
        row: Result = {"kind": kind}
        try:
            for out in outs:
                if codes[out] != 0:
                    raise RuntimeError(f"{out.name}: {(options.work / f'{out.name}.log').read_text()[-800:]}")
            cpu, device = map(losses, outs)
            row |= compare(cpu, device)
            row["passed"] = row["first_gap"] < 1e-2 and abs(row["end_ratio"] - 1) < 0.2
            result["curves"][kind] = {"cpu": curve([*cpu.values()]), "device": curve([*device.values()])}
        except Exception as error:  # the other kind's result is kept
            row |= {"passed": False, "error": f"{type(error).__name__}: {error}"}
        result["rows"].append(row)
    result["passed"] = all(row["passed"] for row in result["rows"])
    return result


def undisturbed(options: Options) -> dict[int, float]:
    """The losses of FE2E in the part `training`, which runs beside the parts that compare with it."""
    while not (options.work / "training.json").exists():  # for as long as this part may take
        time.sleep(0.2)
    return losses(options.work / "fe2e-device")


def resume(options: Options) -> Result:
    """FE2E, killed by SIGKILL in the middle and resumed, against the run of `training` that nobody disturbed."""
    out, middle = options.work / "killed", updates(options) // 3
    command = train_command(*arguments(options, "fe2e", out, options.device), "--set", "checkpoint_seconds=0")
    with (options.work / "killed.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment(options.kit, OMP_NUM_THREADS=THREADS), cwd=ROOT, stdout=log, stderr=log
        )
    while process.poll() is None and written_updates(out) < middle:
        time.sleep(0.02)
    if process.poll() is not None:
        raise RuntimeError(f"it ended before it was killed: {(options.work / 'killed.log').read_text()[-800:]}")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = len(records(out))
    run([*command, "--resume"], options, OMP_NUM_THREADS=THREADS)
    comparison = compare(undisturbed(options), losses(out))
    passed = comparison["first_gap"] < 1e-2 and abs(comparison["end_ratio"] - 1) < 0.2
    return {"passed": passed, "killed_after": before, **comparison}


def ranks(options: Options) -> Result:
    """Two ranks on one card, by gloo, with synchronised batch norm: the losses of one rank but for rounding."""
    out = options.work / "ranks"
    sets = set_options({"ranks.sync_batch_norm": "true", "optim.epochs": 1})
    command = train_command(*arguments(options, "fe2e", out, options.device), *sets, "--nproc-per-node", 2)
    run(command, options, OMP_NUM_THREADS=THREADS)
    two, lines = losses(out), records(out)
    gap = first_gap(undisturbed(options), two)
    return {"passed": gap < 1e-2 and all(line["ranks"] == 2 for line in lines), "updates": len(two), "first_gap": gap}

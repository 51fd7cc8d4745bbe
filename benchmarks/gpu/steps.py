"""Where the time goes: the streams beside dense ones, and whole steps of the published sizes from shards."""

import gzip
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from options import ROOT, Options, Result, run, set_options, train_command
from training import records

from mesm_train.config.recipe_files import load_recipe
from mesm_train.models.kernels import kernels

FIRST, LAST = 6, 12  # the traced updates


def streams(options: Options) -> Result:
    """benchmarks/model.py for several numbers of utterances and precisions. One that fails does not end the others."""
    cases = ((1, "fp32"),) if options.quick else ((64, "bf16"), (8, "bf16"), (256, "bf16"), (64, "tf32"))
    result: Result = {"passed": True, "rows": []}
    for utterances, precision in cases:
        file = options.work / f"streams-{utterances}-{precision}.json"
        command = [sys.executable, str(ROOT / "benchmarks/model.py"), "--device", options.device, "--json", str(file)]
        command += ["--utterances", str(utterances), "--precision", precision, "--engines", "auto"]
        # Tiles, the default; single sites beside them once.
        tiles = ["4", "1"] if (utterances, precision) == (64, "bf16") else ["4"]
        command += ["--selection", "straight", "--tile", *tiles]
        # Several processes to measure memory on a CPU would take minutes.
        command += ["--rounds", "1", "--only", "fe2e"] if options.quick else ["--rounds", "7"]
        row = {"utterances": utterances, "precision": precision}
        try:
            run(command, options)
            result["rows"] += [{**row, **measurement} for measurement in beside_fe2e(json.loads(file.read_text()))]
        except RuntimeError as error:
            result["passed"] = False
            result["rows"].append({**row, "error": str(error)[-400:]})
    return result


def beside_fe2e(rows: list[Result]) -> list[Result]:
    """The rows with what their seconds and those on the card are of FE2E's."""
    (fe2e,) = [row for row in rows if row["variant"].startswith("fe2e")]
    ratios = {"of_fe2e": "both", "card_of_fe2e": "card"}
    return [{**row, **{name: fe2e[of] and row[of] / fe2e[of] for name, of in ratios.items()}} for row in rows]


def steps(options: Options) -> Result:
    """Updates of the published sizes in bf16 from shards of noise: data wait, card, the rest; MFU; peak memory."""
    return measured(options, "steps", (2,) if options.quick else (8, 64))


def compiled_steps(options: Options) -> Result:
    """The same with the transformers compiled, for the larger batch."""
    return measured(options, "compiled_steps", (2,) if options.quick else (64,), "--set", "optim.compile=true")


def measured(options: Options, part: str, batches: Sequence[int], *settings: str) -> Result:
    """FE2E and MESM with further settings. A run that fails does not end the others."""
    data = noise(options.work / "noise", 48 if options.quick else 1296)
    result: Result = {"passed": True, "rows": []}
    for kind in ("fe2e", "mesm-tiles"):
        for batch in batches:
            out = options.work / f"{part}-{kind}-{batch}"
            row: Result = {"kind": kind, "batch": batch, "engine": engine_of(kind, options.device)}
            try:
                run(train_command(*arguments(options, kind, batch, out, data), *settings), options)
                row |= breakdown(out)
            except Exception as error:  # the other rows are worth having
                result["passed"] = False
                row["error"] = f"{type(error).__name__}: {str(error)[-400:]}"
            result["rows"].append(row)
            (options.work / f"{part}.partial.json").write_text(json.dumps(result))
    return result


def noise(folder: Path, count: int) -> Path:
    """Shards of `count` utterances of noise (benchmarks/loader.py), and a split with all but 16 in train."""
    import loader

    if (folder / "split.yaml").exists():  # of another part
        return folder
    folder.mkdir()
    keys = loader.write(folder, count).keys
    parts = {"train": list(keys[16:]), "valid": list(keys[:8]), "test": list(keys[8:16])}
    (folder / "split.yaml").write_text(yaml.safe_dump(parts))
    return folder


def arguments(options: Options, kind: str, batch: int, out: Path, data: Path) -> list[object]:
    """The published sizes with an ALBERT of base size and random weights; some twenty updates."""
    tiny = {"embedding": 128, "width": 768, "layers": 12, "heads": 12, "feedforward": 3072}
    sets: dict[str, Any] = {
        "device": options.device, "split": data / "split.yaml", "optim.batch": batch, "optim.precision": "bf16",
        "optim.epochs": 1, "text.encoder": "tiny", "report.media": "false",
        "loader.threads": 4, "loader.prefetch": 8,
        **{f"text.tiny.{name}": value for name, value in tiny.items()},
    }  # fmt: skip
    if options.quick:
        sets |= {f"text.tiny.{name}": 8 for name in tiny} | {"model.channels": "[4,4]", "model.hidden": 8}
    profile = ("--profile", f"{FIRST}:{LAST}")
    return ["run", f"iemocap-{kind}", "--data", data / "data", "--out", out, *profile, *set_options(sets)]


def engine_of(kind: str, device: str) -> str:
    """What computes the convolutions of the recipe."""
    import torch

    return kernels(load_recipe(f"iemocap-{kind}").model.sparse.engine, torch.device(device)).name


def breakdown(run_folder: Path) -> Result:
    """Medians over the updates after the trace; the card's time is that of its kernels and copies in the trace."""
    lines = records(run_folder)[LAST:]

    def middle(name: str) -> float | None:
        values = [line[name] for line in lines if line[name] is not None]
        return median(values) if values else None

    seconds, wait = middle("seconds"), middle("data_wait")
    if seconds is None or wait is None:
        raise ValueError(f"{run_folder.name} has no update after the {LAST} that were traced")
    events = json.loads(gzip.decompress((run_folder / "profile.json.gz").read_bytes()))["traceEvents"]
    work = [event for event in events if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    card = sum(event["dur"] for event in work) / 1e6 / (LAST - FIRST) if work else None
    return {
        "updates": len(lines), "seconds": seconds, "data_wait": wait, "card": card,
        "idle": None if card is None else max(seconds - wait - card, 0.0),
        "launches": len(work) / (LAST - FIRST) if work else None,
        "samples_per_s": middle("samples_per_s"), "mfu": middle("mfu"), "tflops": middle("tflops"),
        "memory_gb": max(line["memory_gb"] for line in lines),
    }  # fmt: skip

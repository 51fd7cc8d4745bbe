"""Checks and measurements on one graphics card in under 8 minutes, without a network: one JSON file and one table.

    python benchmarks/gpu/prepare.py gpu-kit          where there is a network (make gpu-kit)
    python benchmarks/gpu/run.py --kit gpu-kit        on the machine with the card (make gpu)
    python benchmarks/gpu/run.py --kit gpu-kit --device cpu --quick      tests the script itself

Each part runs in a process of its own, with a time limit. A part that fails or runs out of time is recorded as
failed, and the others go on. Exit code 1: a part failed. The machine must have torch, transformers, safetensors,
pandas, typer and pytest; what else is needed comes from the kit's wheels, which are unpacked into gpu-kit/site.
"""

import argparse
import importlib
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock

from options import ROOT, Options, Result, environment
from table import table

MINUTES = 7.75
REPORT = Lock()
# Name, module and function, most seconds of MINUTES.
PARTS = (
    ("environment", "run", "machine", 60),
    ("parity", "parity", "parity", 150),
    ("oracle", "run", "oracle", 150),
    ("training", "training", "training", 150),
    ("resume", "training", "resume", 150),
    ("ranks", "training", "ranks", 150),
    ("machines", "machines", "machines", 180),
    ("convolution", "convolution", "convolution", 60),
    ("streams", "steps", "streams", 180),
    ("steps", "steps", "steps", 210),
    ("compiled", "compiled", "compiled", 180),
    ("compiled_steps", "steps", "compiled_steps", 240),
)
NOT_BY_DEFAULT = ("compiled", "compiled_steps")  # what the minutes do not suffice for
# What proves comes before what measures. Chains of a stage run side by side, with few threads each, the parts of a
# chain one by one. With parity beside them, which has a thread for each core, all waited for each other: none ended in
# 150 s.
STAGES = (
    (("environment", "parity"),),
    (("oracle",), ("training",), ("resume",), ("ranks", "machines")),
    (("convolution", "streams", "steps", "compiled", "compiled_steps"),),
)


def machine(options: Options) -> Result:
    """What the parts run on."""
    import torch
    import transformers

    cuda = options.device.startswith("cuda")
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    triton = importlib.util.find_spec("triton") is not None
    return {
        "passed": torch.cuda.is_available() or not cuda,
        "card": torch.cuda.get_device_name() if cuda else None,
        "driver": subprocess.run(query, capture_output=True, text=True).stdout.splitlines()[0] if cuda else None,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "triton": importlib.import_module("triton").__version__ if triton else None,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }


def oracle(options: Options) -> Result:
    """tests/models/test_card.py: the sparse stack against whole grids in float64."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests/models/test_card.py")]
    if importlib.util.find_spec("xdist") is not None:  # most of the time goes into compiling
        command += ["-n", str(max(1, (os.cpu_count() or 1) // 4))]
    done = subprocess.run(
        command, env=environment(options.kit, MESM_TEST_DEVICE=options.device, OMP_NUM_THREADS="1"), cwd=ROOT,
        capture_output=True, text=True,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    summary = lines[-1] if lines else done.stderr[-300:]
    failed = [line[:200] for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {
        "passed": done.returncode == 0 and "skipped" not in summary,  # without a card all are
        "summary": summary,
        "failed": failed[:10],
    }


def unpack_wheels(kit: Path) -> None:
    """Install into kit/site what is not importable here, from wheels for this Python; SystemExit if there are none."""
    modules = sorted({wheel.name.split("-")[0] for wheel in (kit / "wheels").glob("*.whl")})  # called as their packages
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if not missing or (kit / "site").exists():
        return
    options = ["-q", "--no-index", "--no-deps", "--find-links", str(kit / "wheels"), "--target", str(kit / "site")]
    done = subprocess.run([sys.executable, "-m", "pip", "install", *options, *missing], capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        sys.exit(
            f"{', '.join(missing)}: not installed here, and not to be had from {kit / 'wheels'} ({lines[-1]}). For "
            f"this Python: benchmarks/gpu/prepare.py {kit} --python {sys.version_info.major}.{sys.version_info.minor}"
        )


def run_part(name: str, options: Options, seconds: float) -> Result:
    """The result of a part, from a process and a session of its own; "failed" with the reason if it ended badly."""
    out, began = options.work / f"{name}.json", time.monotonic()
    command = [sys.executable, __file__, "--part", name, "--out", str(options.work), *options.arguments()]
    with (options.work / f"{name}.err").open("w+") as errors:
        process = subprocess.Popen(command, env=environment(options.kit), stderr=errors, start_new_session=True)
        try:
            process.wait(timeout=seconds)
            reason = f"exit code {process.returncode}"
        except subprocess.TimeoutExpired:
            reason = f"still running after {seconds:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it started
            process.wait()
        errors.seek(0)
        end = errors.read()[-600:]
    if not out.exists():  # parts beside it wait for the file
        partial = options.work / f"{name}.partial.json"  # what the part wrote until then
        first = json.loads(partial.read_text()) if partial.exists() else {}
        out.write_text(json.dumps({**first, "passed": False, "error": f"{reason}: {end}"}))
    result: Result = json.loads(out.read_text())
    return {
        "status": "ok" if result.pop("passed") else "failed",
        "seconds": round(time.monotonic() - began, 1),
        **result,
    }


def part(name: str, options: Options, out: Path) -> None:
    """Run a part here and write what it found; what it raises is written too."""
    [(module, function)] = [(module, function) for key, module, function, _ in PARTS if key == name]
    try:
        result = getattr(importlib.import_module(module), function)(options)
    except Exception as error:  # whatever it is, it belongs into the report
        traceback.print_exc()
        result = {"passed": False, "error": f"{type(error).__name__}: {str(error)[-600:]}"}
    temporary = out / f"{name}.tmp"
    temporary.write_text(json.dumps(result))
    temporary.rename(out / f"{name}.json")


def write_report(folder: Path, head: Result, parts: dict[str, Result]) -> None:
    """After each part: what is there survives if this process is ended."""
    with REPORT:
        whole = {**head, "parts": {name: parts[name] for name, *_ in PARTS if name in parts}}
        (folder / "report.json").write_text(json.dumps(whole, indent=1))
        (folder / "report.md").write_text(table(whole))


def main() -> int:
    """Run the parts and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", type=Path, default=ROOT / "gpu-kit", help="what prepare.py wrote")
    parser.add_argument("--out", type=Path, default=ROOT / "gpu-report", help="for report.json and report.md")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="few steps of small models")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="limit of all parts; theirs are in proportion")
    by_default = [name for name, *_ in PARTS if name not in NOT_BY_DEFAULT]
    parser.add_argument("--only", nargs="+", default=by_default, help="some of the parts")
    parser.add_argument("--work", type=Path, help="for runs (default: a temporary folder)")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.part:
        options = Options(device=settings.device, quick=settings.quick, kit=settings.kit, work=settings.work)
        part(settings.part, options, settings.out)
        return 0
    began = time.monotonic()
    report = {"date": time.strftime("%Y-%m-%d"), "device": settings.device, "quick": settings.quick}
    unpack_wheels(settings.kit)
    parts: dict[str, Result] = {}
    settings.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mesm-gpu-") as temporary:
        work = settings.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        options = Options(device=settings.device, quick=settings.quick, kit=settings.kit.resolve(), work=work.resolve())
        limits = {name: limit * settings.minutes / MINUTES for name, _, _, limit in PARTS}

        def run_chain(chain: Sequence[str]) -> None:
            for name in chain:
                left = 60 * settings.minutes - (time.monotonic() - began)
                if name in settings.only:
                    late = {"status": "not run", "error": "no time was left"}
                    parts[name] = run_part(name, options, min(limits[name], left)) if left > 5 else late
                    print(f"{name}: {parts[name]['status']} ({parts[name].get('seconds', 0)} s)", flush=True)
                    write_report(settings.out, {**report, "seconds": round(time.monotonic() - began)}, parts)

        for stage in STAGES:
            with ThreadPoolExecutor(len(stage)) as pool:
                list(pool.map(run_chain, stage))
    print((settings.out / "report.md").read_text())
    return int(any(result["status"] != "ok" for result in parts.values()))


if __name__ == "__main__":
    sys.exit(main())

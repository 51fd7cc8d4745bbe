"""What every part of benchmarks/gpu/run.py is given, and how it starts processes."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
Result = dict[str, Any]  # "passed" and whatever the table shows; of JSON's types


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`kit` is what prepare.py wrote, `work` a folder for runs. `quick`: few steps of small models."""

    device: str
    quick: bool
    kit: Path
    work: Path

    def arguments(self) -> list[str]:
        """The options as run.py takes them."""
        paths = ["--kit", str(self.kit), "--work", str(self.work)]
        return ["--device", self.device, *(["--quick"] if self.quick else []), *paths]


def environment(kit: Path, **more: str) -> dict[str, str]:
    """Of processes that import this checkout, and from the kit what is not installed."""
    places = [ROOT, ROOT / "cli", ROOT / "manifests", ROOT / "benchmarks", ROOT / "tests" / "models", kit / "site"]
    before = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    path = os.pathsep.join([*map(str, places), *before])
    settings = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONFAULTHANDLER": "1"}
    return {**os.environ, "PYTHONPATH": path, **settings, **more}


def run(command: list[str], options: Options, **more: str) -> str:
    """What a command prints. Raises RuntimeError with the end of what it wrote to stderr."""
    done = subprocess.run(command, env=environment(options.kit, **more), cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"exit code {done.returncode}: {(done.stderr or done.stdout)[-1500:]}")
    return done.stdout


def train_command(*arguments: object) -> list[str]:
    """mesm-train, of this checkout."""
    return [sys.executable, "-c", "from mesm_cli.train import main; main()", *map(str, arguments)]


def set_options(settings: Mapping[str, object]) -> list[str]:
    """Settings as mesm-train takes them."""
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]

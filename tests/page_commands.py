"""Runs commands of the documentation as they stand, but for places: /data is `data` of the current folder."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from commands import run_command
from documented import Command


def put(folder: Path, places: Mapping[str, Path]) -> None:
    """Make `folder` what the commands find: links by the places that they name to the files of the tests."""
    for name, target in places.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target.resolve())


def run_page_command(command: Command, *options: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run a command in the current folder.

    Args:
        command: A call of mesm-data, mesm-train or Python.
        *options: Further options, for a small size; the last value of an option counts.
        code: The exit code that it must have.
    """
    name, *words = [re.sub(r"(^|=)/", r"\1", word) for word in command.words]
    assert not command.environment, f"{command}: an environment variable is not set here"
    if name == "python":
        done = subprocess.run([sys.executable, *words, *options], check=False, capture_output=True, text=True)
    else:
        assert name in ("mesm-data", "mesm-train"), command
        done = run_command(name, *words, *options)
    assert done.returncode == code, f"{command}: {done.stdout} {done.stderr}"
    return done

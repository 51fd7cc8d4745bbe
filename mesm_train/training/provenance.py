"""What identifies a run: data, split, labels, settings, code and machine. No user, no host, no place on a disk."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mesm_data.splits.resolve import Split
from mesm_train.config.settings import RunConfig
from mesm_train.config.typed_yaml import to_dict
from mesm_train.data.labels import Heads


def provenance(
    info: Mapping[str, Any], split: Split, heads: Heads, config: RunConfig, *, device: str
) -> dict[str, Any]:
    """The content of RUN/provenance.json.

    Args:
        info: the content of dataset.json (Dataset.info).
        split, heads, config: what the run works with.
        device: the one in use, "cpu" or "cuda:0"; not "auto".
    """
    return {
        "dataset": {
            "corpus": info["corpus"],
            "root": info["root"],
            "format": info["format"],
            "synthetic": info["synthetic"],
            "counts": dict(info["counts"]),
            "licence": dict(info["schema"].get("licence", {})),
        },
        "split": split.summary(),
        "labels": heads.summary(),
        "config": without_places(to_dict(config)),
        "seed": config.seed,
        "code": code(),
        "environment": environment(device),
    }


def without_places(value: Any) -> Any:
    """Settings with paths and URLs cut to their last part: the way to a folder names users and machines.

    A path is a text that begins with /, ~ or . ; names of models ("a/b") stay.
    """
    if isinstance(value, dict):
        return {key: without_places(inner) for key, inner in value.items()}
    if isinstance(value, str) and "://" in value:
        return urlsplit(value).path.rstrip("/").rpartition("/")[2]
    if isinstance(value, str) and value.startswith(("/", "~", ".")):
        last = Path(value).name
        return "~" if last.startswith("~") or last == _home_name() else last
    return value


def _home_name() -> str | None:
    with suppress(RuntimeError):  # HOME is not set, and the user is not in the passwd file
        return Path.home().name
    return None


def code(file: Path = Path(__file__)) -> dict[str, Any]:
    """The version that is installed; in a checkout of ours also the commit, and whether tracked files differ from it.

    `file` is one of ours: an install inside somebody else's checkout (in its .venv) is not tracked there, and git's
    answer would be about their code.
    """
    folder = file.resolve().parent
    tracked = _git(folder, "ls-files", "--error-unmatch", file.name)
    commit = _git(folder, "rev-parse", "HEAD") if tracked else None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"version": _version("mesm"), "commit": commit, "modified": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of a git command that only reads; None if it fails, or there is no git."""
    # GIT_DIR and its kin, set in a hook or an alias, would answer for another repository.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def environment(device: str) -> dict[str, Any]:
    """What computes: versions, processor, graphics card and its TF32 setting (None on a CPU) and threads of torch."""
    import torch

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: _version(name) for name in ("torch", "numpy", "transformers")},
        "cpu": _cpu(),
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "tf32": torch.backends.cudnn.allow_tf32 if device.startswith("cuda") else None,
        "threads": torch.get_num_threads(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str | None:
    # model name	: AMD EPYC 7B13
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or None


_TITLES = {
    "dataset.corpus": "the corpus",
    "dataset.root": "the dataset's root",
    "dataset.format": "the dataset's format",
    "dataset.synthetic": "whether the data are synthetic",
    "split.digest": "the split's lists (digest)",
    "split.name": "the split's name",
    "labels.view": "the label view",
    "labels.classes": "the classes",
    "seed": "the seed",
    "code.version": "the version of mesm",
    "code.commit": "the commit of the code",
    "code.modified": "whether the code was changed since its commit",
}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what two provenances differ, one sentence each, the most important first: data, split, labels, then the rest.

    What one of them does not record at all (another version wrote it) is said as "not recorded".
    """
    one, two = (dict(_flat(provenance)) for provenance in (before, now))
    keys = dict.fromkeys([*_TITLES, *one, *two])
    return [
        f"{_TITLES.get(key, key)}: {_said(one, key)} before, {_said(two, key)} now"
        for key in keys
        if key != "config.seed" and ((key in one) != (key in two) or one.get(key) != two.get(key))
    ]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _said(flat: Mapping[str, Any], key: str) -> str:
    return json.dumps(flat[key], ensure_ascii=False, default=str) if key in flat else "not recorded"

"""The provenance of a run: data, split, labels, settings, code and machine. No user, host or path."""

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
        split: the split that the run trains on.
        heads: the heads of its model.
        config: its settings.
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
        "config": without_paths(to_dict(config)),
        "seed": config.seed,
        "code": code_version(),
        "environment": environment(device),
    }


def without_paths(value: Any) -> Any:
    """Settings with paths and URLs cut to their last part: the way to a folder names users and machines.

    A text that begins with /, ~ or . is a path; names of models ("a/b") stay.
    """
    if isinstance(value, dict):
        return {key: without_paths(inner) for key, inner in value.items()}
    if isinstance(value, str) and "://" in value:
        return urlsplit(value).path.rstrip("/").rpartition("/")[2]
    if isinstance(value, str) and value.startswith(("/", "~", ".")):
        last = Path(value).name
        return "~" if last.startswith("~") or last == _home_name() else last
    return value


def _home_name() -> str | None:
    with suppress(RuntimeError):  # HOME is not set, and the user is not in the password database
        return Path.home().name
    return None


def code_version(file: Path = Path(__file__)) -> dict[str, Any]:
    """The installed version; in a checkout of mesm also the commit, and whether tracked files differ from it.

    Args:
        file: A file of mesm. In a .venv inside the checkout of another project it is not tracked by git, and the
            commit would be that of the other project.
    """
    folder = file.resolve().parent
    is_tracked = _git(folder, "ls-files", "--error-unmatch", file.name)
    commit = _git(folder, "rev-parse", "HEAD") if is_tracked else None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"version": _version("mesm"), "commit": commit, "modified": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of a read-only git command; None if it fails, or git is not installed."""
    # GIT_DIR and similar variables, set in a hook or an alias, would select another repository.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        result = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def environment(device: str) -> dict[str, Any]:
    """The environment: versions, CPU, GPU and its TF32 setting (None without a GPU), and threads of torch."""
    import torch

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,  # with its build, as 2.6.0+cu124, which the package's metadata may lack
        **{name: _version(name) for name in ("numpy", "transformers")},
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
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1].strip() if match else platform.processor() or None


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


def provenance_differences(
    before: Mapping[str, Any], now: Mapping[str, Any], words: tuple[str, str] = ("before", "now")
) -> list[str]:
    """The differences of two provenances as sentences: data, split, labels, then the rest.

    A value that another version of mesm did not record appears as "not recorded". `words`: what says which is which.
    """
    old, new = (dict(flatten(provenance)) for provenance in (before, now))
    keys = dict.fromkeys([*_TITLES, *old, *new])
    return [
        f"{_TITLES.get(key, key)}: {_text(old, key)} {words[0]}, {_text(new, key)} {words[1]}"
        for key in keys
        if key != "config.seed" and ((key in old) != (key in new) or old.get(key) != new.get(key))
    ]


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings with dotted names."""
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from flatten(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _text(flat: Mapping[str, Any], key: str) -> str:
    return json.dumps(flat[key], ensure_ascii=False, default=str) if key in flat else "not recorded"

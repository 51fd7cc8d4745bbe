"""Checkpoints that are complete or absent.

RUN/checkpoints/step-00000123/   model.safetensors, state.pt (optimizer, position; loaded with weights_only)
RUN/checkpoints/last.json        {"step": 123}: written when the folder that it names is safe on disk
RUN/checkpoints/best.json        the same for the epoch with the best validation score, and the best checkpoints that
                                 are kept, best first: [{"step": 123, "score": .5}, ...]
"""

import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mesm_data.errors import MesmError
from mesm_data.storage.files import open_regular_file, sync_folder
from mesm_data.storage.json_files import write_json
from mesm_data.storage.json_shapes import read_checked_json
from mesm_data.storage.machine_errors import translate_machine_errors
from mesm_train.training.run_files import BEST, LAST


def save(
    folder: Path, step: int, model: dict[str, Tensor], state: dict[str, Any], *, score: float | None, keep: int = 1
) -> None:
    """Write a checkpoint, make it the last one, and delete those that are neither the last nor among the best.

    Args:
        folder: RUN/checkpoints.
        step: The number of updates so far.
        model: The weights.
        state: Everything else, for torch.save.
        score: The validation score, if the checkpoint may become one of the best.
        keep: How many of the best checkpoints are kept.

    Raises:
        MesmError: The disk is full. The earlier checkpoints are still there.
    """
    from safetensors.torch import save_file

    target, temporary, previous = folder / _name(step), folder / f".{_name(step)}.tmp", _previous(folder, step)
    try:
        with translate_machine_errors(target):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            _write_file(temporary / "model.safetensors", lambda path: save_file(_copies(model), path))
            _write_file(temporary / "state.pt", lambda path: torch.save(state, path))
            sync_folder(temporary)
            if target.exists():  # the same step again: it stays, as `last` may name it, until it is replaced
                shutil.rmtree(previous, ignore_errors=True)
                target.rename(previous)
            temporary.rename(target)
            sync_folder(folder)
            shutil.rmtree(previous, ignore_errors=True)
            best = [entry for entry in best_checkpoints(folder) if entry["step"] != step]
            if score is not None:
                best = sorted(
                    [*best, {"step": step, "score": score}], key=lambda entry: (-entry["score"], entry["step"])
                )
                best = best[:keep]
                write_json(folder / "best.json", {"step": best[0]["step"], "kept": best})
            write_json(folder / "last.json", {"step": step})
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    keep_names = {_name(entry["step"]) for entry in best} | {_name(step)}
    for path in folder.glob("step-*"):
        if path.name not in keep_names:
            # On NFS the folder of a file that `eval` has open cannot be deleted: the next checkpoint's turn comes.
            shutil.rmtree(path, ignore_errors=True)


def best_checkpoints(folder: Path) -> list[dict[str, Any]]:
    """Step and score of each of the best checkpoints that are kept, best first."""
    if not (folder / "best.json").exists():
        return []
    entries: list[dict[str, Any]] = read_checked_json(folder / "best.json", BEST)["kept"]
    return entries


def load(folder: Path, which: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Load the `last` or the `best` checkpoint on the CPU, on whatever device it was saved.

    Returns:
        The weights and the state; None if there is no checkpoint yet.

    Raises:
        MesmError: The checkpoint is damaged.
    """
    from safetensors.torch import load_file

    if not (folder / f"{which}.json").exists():
        return None
    step = read_checked_json(folder / f"{which}.json", LAST)["step"]
    path = folder / _name(step)
    if not path.exists() and _previous(folder, step).exists():  # killed between the two renames of `save`
        path = _previous(folder, step)
    try:
        weights = load_file(path / "model.safetensors")
        check_not_compressed(path / "state.pt")
        state = torch.load(path / "state.pt", weights_only=True, map_location="cpu")
        if not isinstance(state, dict):
            raise TypeError("the state is not a dictionary")
    except Exception as error:  # a damaged file raises different exceptions, depending on where it is damaged
        raise MesmError(f"{path} is not a complete checkpoint ({type(error).__name__}: {error})") from None
    return weights, state


def check_not_compressed(path: Path) -> None:
    """Raise ValueError if a file of torch.save expands to more than its own size: torch does not compress."""
    with open_regular_file(path) as file, zipfile.ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > file.seek(0, os.SEEK_END):
            raise ValueError(f"it expands to {size} bytes")


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _previous(folder: Path, step: int) -> Path:
    """The temporary name of a checkpoint that another one of the same step is about to replace."""
    return folder / f".{_name(step)}.previous"


def _write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write one file and sync it to disk. torch hides why it cannot write: one more write raises it."""
    try:
        write(path)
    except RuntimeError:
        with path.open("ab") as file:
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
        raise
    with suppress(PermissionError):  # a file system without modes
        path.chmod(0o644)  # safetensors uses 0600, all other files of a run are readable by everybody
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _copies(model: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the tensors in separate storage, which safetensors requires."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.items()}

"""Checkpoints that are whole or absent.

RUN/checkpoints/step-00000123/   model.safetensors, state.pt (optimizer, position; loaded with weights_only)
RUN/checkpoints/last.json        {"step": 123}: written after the folder it names is safe on disk
RUN/checkpoints/best.json        the same for the epoch with the best validation score, and the `kept` best ones, best
                                 first: [{"step": 123, "score": .5}, ...]
"""

import os
import shutil
import zipfile
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
    """Write the checkpoint of global step `step`, point `last` to it, delete those nobody points to.

    One with a `score` becomes `best` if no kept one has more; the `keep` best are kept. Raises MesmError if there is
    no room; the checkpoints that were there stay.
    """
    from safetensors.torch import save_file

    target, temporary, previous = folder / _name(step), folder / f".{_name(step)}.tmp", _previous(folder, step)
    try:
        with translate_machine_errors(target):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            _write(temporary / "model.safetensors", lambda path: save_file(_apart(model), path))
            _write(temporary / "state.pt", lambda path: torch.save(state, path))
            sync_folder(temporary)
            if (
                target.exists()
            ):  # the same step again: a checkpoint that `last` may name stays until the new one is there
                shutil.rmtree(previous, ignore_errors=True)
                target.rename(previous)
            temporary.rename(target)
            sync_folder(folder)
            shutil.rmtree(previous, ignore_errors=True)
            kept = [one for one in kept_best(folder) if one["step"] != step]
            if score is not None:
                kept = sorted([*kept, {"step": step, "score": score}], key=lambda one: (-one["score"], one["step"]))
                kept = kept[:keep]
                write_json(folder / "best.json", {"step": kept[0]["step"], "kept": kept})
            write_json(folder / "last.json", {"step": step})
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    named = {_name(one["step"]) for one in kept} | {_name(step)}
    for path in folder.glob("step-*"):
        if path.name not in named:
            shutil.rmtree(path)


def kept_best(folder: Path) -> list[dict[str, Any]]:
    """The best checkpoints that are kept, best first: step and score of each."""
    if not (folder / "best.json").exists():
        return []
    found: list[dict[str, Any]] = read_checked_json(folder / "best.json", BEST)["kept"]
    return found


def load(folder: Path, which: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The weights and the state of the `last` or the `best` checkpoint, on the CPU; None if there is none yet.

    They may have been saved on a device that is not here. Raises MesmError that names the file if it is damaged.
    """
    from safetensors.torch import load_file

    if not (folder / f"{which}.json").exists():
        return None
    step = read_checked_json(folder / f"{which}.json", LAST)["step"]
    place = folder / _name(step)
    if not place.exists() and _previous(folder, step).exists():  # killed between the two renames of `save`
        place = _previous(folder, step)
    try:
        weights = load_file(place / "model.safetensors")
        refuse_compressed(place / "state.pt")
        state = torch.load(place / "state.pt", weights_only=True, map_location="cpu")
        if not isinstance(state, dict):
            raise TypeError("the state is no dictionary")
    except Exception as error:  # what a torn file raises depends on where it is torn
        raise MesmError(f"{place} is not a whole checkpoint ({type(error).__name__}: {error})") from None
    return weights, state


def refuse_compressed(path: Path) -> None:
    """Raises ValueError if a file of torch.save unfolds to more than its own size: torch stores without compression."""
    with open_regular_file(path) as file, zipfile.ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > file.seek(0, os.SEEK_END):
            raise ValueError(f"it unfolds to {size} bytes")


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _previous(folder: Path, step: int) -> Path:
    """Where a checkpoint of the same step waits while a new one takes its name."""
    return folder / f".{_name(step)}.previous"


def _write(path: Path, write: Any) -> None:
    """Write one file and make it safe on disk. Libraries report a full disk in their own ways: all become OSError."""
    try:
        write(path)
        with suppress(PermissionError):  # a file system without modes
            path.chmod(0o644)  # safetensors makes it 0600, all else of a run can be read by everybody
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except OSError:
        raise
    except Exception as error:
        free = shutil.disk_usage(path.parent).free
        if free < 2**20 or "No space left" in str(error) or "os error 28" in str(error):
            raise OSError(28, str(error)) from error
        raise


def _apart(model: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with storage of their own, as safetensors wants them."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.items()}

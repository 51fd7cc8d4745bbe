"""Checkpoints that are whole or absent.

RUN/checkpoints/step-00000123/   model.safetensors, state.pt (optimizer, position; loaded with weights_only)
RUN/checkpoints/last.json        {"step": 123}: written after the folder it names is safe on disk
RUN/checkpoints/best.json        the same for the epoch with the best validation score
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mesm_data.errors import MesmError
from mesm_data.files import no_room_is_said, read_json, sync_folder, write_json

POINTERS = ("last", "best")


def save(folder: Path, step: int, model: dict[str, Tensor], state: dict[str, Any], *, best: bool) -> None:
    """Write the checkpoint of global step `step`, point `last` (and `best`) to it, delete those nobody points to.

    Raises MesmError if there is no room; the checkpoints that were there stay.
    """
    from safetensors.torch import save_file

    target, temporary = folder / _name(step), folder / f".{_name(step)}.tmp"
    try:
        with no_room_is_said(target):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            _write(temporary / "model.safetensors", lambda path: save_file(_apart(model), path))
            _write(temporary / "state.pt", lambda path: torch.save(state, path))
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
            sync_folder(folder)
            for pointer in POINTERS if best else POINTERS[:1]:
                write_json(folder / f"{pointer}.json", {"step": step})
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    keep = {_name(read_json(folder / f"{p}.json")["step"]) for p in POINTERS if (folder / f"{p}.json").exists()}
    for path in folder.glob("step-*"):
        if path.name not in keep:
            shutil.rmtree(path)


def load(folder: Path, which: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The weights and the state of the `last` or the `best` checkpoint; None if there is none yet.

    Raises MesmError that names the file if it is damaged.
    """
    from safetensors.torch import load_file

    if not (folder / f"{which}.json").exists():
        return None
    place = folder / _name(read_json(folder / f"{which}.json")["step"])
    try:
        weights = load_file(place / "model.safetensors")
        state = torch.load(place / "state.pt", weights_only=True)
    except Exception as error:  # what a torn file raises depends on where it is torn
        raise MesmError(f"{place} is not a whole checkpoint ({type(error).__name__}: {error})") from None
    return weights, state


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _write(path: Path, write: Any) -> None:
    """Write one file and make it safe on disk. Libraries report a full disk in their own ways: all become OSError."""
    try:
        write(path)
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

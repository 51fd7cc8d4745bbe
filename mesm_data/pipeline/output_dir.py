"""The output folder of a build: whether a build may write to it, and whether an earlier build may be resumed."""

import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.dataset.recipe import describe_difference, describe_toolchain_difference
from mesm_data.errors import InputError
from mesm_data.storage.files import make_folder, sync_folder
from mesm_data.storage.json_files import canonical_json
from mesm_data.storage.json_shapes import RECIPE_SHAPE, read_checked_json

OWN_NAMES = {".build", "dataset.json"}  # a folder with one of them was written by a build


def remove_temporary_files(*folders: Path) -> None:
    """Delete what killed processes left unfinished: all names of the form `.*.tmp`."""
    for folder in folders:
        for path in folder.glob(".*.tmp") if folder.is_dir() else ():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def validate_output_dir(out: Path, source: Path) -> None:
    """Raises InputError if `out` is a file, contains other files than a build's, or overlaps the source folder."""
    out_path, source_path = out.resolve(), source.resolve()
    if out_path == source_path or source_path in out_path.parents or out_path in source_path.parents:
        raise InputError(f"--out {out} and --source {source} lie inside each other: choose a folder of its own")
    try:
        names = {path.name for path in out.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise InputError(f"--out {out} is a file, or lies below one: give a folder") from None
    except PermissionError:
        raise
    except OSError as error:
        raise InputError(f"--out {out} cannot be used ({error.strerror}): give another folder") from None
    if names and not names & OWN_NAMES:
        raise InputError(f"--out {out} contains other files ({min(names)}): choose an empty or a new folder")


def prepare_output_dir(out: Path, plan: dict[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
    """Make `out` ready for a build.

    Args:
        out: The folder.
        plan: What will be built (see `make_plan`).
        overwrite: Whether to delete an earlier build, unless the same call with `overwrite` began it and was stopped.

    Returns:
        The content of dataset.json if the dataset of `plan` is already there.

    Raises:
        InputError: The folder contains something else, and `overwrite` is false.
    """
    dataset, unfinished = out / "dataset.json", out / ".build" / "recipe.json"
    before = next((read_checked_json(path, RECIPE_SHAPE) for path in (dataset, unfinished) if path.exists()), None)
    if overwrite:
        parts = unfinished.parent / "parts"
        begun = parts / f"overwrites-{sha256(canonical_json(plan)).hexdigest()}"
        if dataset.exists() or not begun.exists():  # else the same command was stopped, and goes on
            dataset.unlink(missing_ok=True)  # first: from here on the folder is not a dataset
            sync_folder(out)
            for folder in (out / "shards", out / "video", parts):
                shutil.rmtree(folder, ignore_errors=True)
            make_folder(parts)
            begun.touch()
        return None
    if not before:
        return None
    _check_same_plan(out, before, plan)
    if dataset.exists():
        return dict(before)
    if differs := describe_toolchain_difference(before.get("toolchain", {}), plan["toolchain"]):
        raise InputError(
            f"{out} was begun with another toolchain: {differs}. Continue with the first one, or --overwrite"
        )
    return None


def _check_same_plan(out: Path, before: dict[str, Any], plan: dict[str, Any]) -> None:
    recipe = before.get("recipe", {})
    corpus = recipe.get("corpus")
    if corpus is not None and corpus != plan["recipe"]["corpus"]:
        raise InputError(f"{out} holds a dataset of {corpus}, not of {plan['recipe']['corpus']}: give another --out")
    if differs := describe_difference(recipe, plan["recipe"]):
        raise InputError(f"{out} was begun with another recipe: {differs}. Give another --out, or --overwrite")
    if differs := describe_difference(before.get("source", {}), plan["source"]):
        if differs.startswith("scan_sha256"):
            differs = "labels, texts, times or names of files are others now"
            then, now = (of.get("toolchain", {}).get("mesm") for of in (before, plan))
            differs += f", or mesm {now} reads them otherwise than mesm {then}" if then != now else ""
        raise InputError(
            f"{out} was begun with another source: {differs}. Give another --out, or --overwrite; "
            f"after a repair of the same source, `mesm-data retry {out}` rebuilds what the repair changes"
        )
    if before.get("schema") != plan["schema"]:
        raise InputError(
            f"{out} was begun with another schema of the corpus (labels, views, splits or licence). Give another "
            "--out, or --overwrite"
        )
    if before.get("locked_by") != plan.get("locked_by"):
        lock = "another lock" if before.get("locked_by") else "no lock"
        raise InputError(f"{out} was begun with {lock}: give another --out, or --overwrite")

"""Downloads a published dataset. Every file is checked before it is put in place; dataset.json comes last."""

import shutil
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from mesm_data.dataset.dataset_dir import read_dataset_info
from mesm_data.dataset.description import (
    MAX_INFO_BYTES,
    FileEntries,
    check_manifest_digest,
    listed_files,
    parse_dataset_info,
)
from mesm_data.dataset.info import FileEntry
from mesm_data.errors import InputError
from mesm_data.integrity.lock_writer import LOCK_NAME
from mesm_data.publishing.contents import CARD_NAME, INDEX_NAME, SPLITS_NAME, Publication, read_publication
from mesm_data.storage import remote
from mesm_data.storage.files import atomic_write
from mesm_data.storage.parallel import run_parallel
from mesm_data.storage.progress import Progress, Step, no_progress
from mesm_data.storage.remote_errors import RemoteFileNotFound, redact_url

MAX_TABLE = 256 * 2**20  # bytes of a table whose size is not published


class FetchResult(NamedTuple):
    """The tier of the publication ("copy" for a dataset's folder that was copied, not published), and its root."""

    tier: str
    root: str


def fetch(url: str, out: Path, *, progress: Progress = no_progress) -> FetchResult:
    """Download the publication at `url` into the folder `out`. Interrupted, the same call continues.

    Args:
        url: Where the dataset was published, or the URL of a copy of its folder.
        out: A new folder, or that of an interrupted fetch.
        progress: The phase is "fetch"; its units are the bytes that exist in `out`.

    Raises:
        InputError: There is no valid publication, or `out` holds something else or has too little disk space.
        MesmError: A file cannot be downloaded, or is not the published one.
    """
    publication = _publication(url)
    if publication and publication.tier == "recipe":
        _fetch_recipe(url, out, publication, progress)
        return FetchResult(publication.tier, publication.root)
    where = remote.join_url(url, "dataset.json")
    try:
        data = remote.read_bytes(where, limit=MAX_INFO_BYTES)
    except RemoteFileNotFound:
        reason = "there is no dataset. Give the URL that `mesm-data publish` was given"
        if publication:
            reason = "publishing is in progress or was interrupted. Ask its publisher to run the same command again"
        raise InputError(f"{redact_url(url)} has no dataset.json: {reason}") from None
    info = parse_dataset_info(data, redact_url(where))
    files = listed_files(info)
    if publication:
        files = _consistent_files(files, data, info["root"], publication, url)
    _check_folder(out, info["root"], files)
    total = _check_disk_space(out, files, url)
    step = progress("fetch", total, total)
    run_parallel(sorted(files), lambda name, report: _download(url, out, name, files[name], report), step)
    if not publication:
        _download_tables(url, out, clips=bool(info["video"]))
    check_manifest_digest(out, info)
    with atomic_write(out / "dataset.json") as file:
        file.write(data)
    return FetchResult(publication.tier if publication else "copy", info["root"])


def _publication(url: str) -> Publication | None:
    index = remote.join_url(url, INDEX_NAME)
    try:
        return read_publication(remote.read_bytes(index, limit=MAX_INFO_BYTES), redact_url(index))
    except RemoteFileNotFound:
        return None


def _consistent_files(media: FileEntries, data: bytes, root: str, publication: Publication, url: str) -> FileEntries:
    """All files of a publication except dataset.json. Raises InputError if its two lists do not agree.

    Args:
        media: The shards and clips that dataset.json names.
        data: The content of dataset.json.
        root: The root in dataset.json.
        publication: The content of published.json.
        url: Where it is published, for messages.
    """
    files = dict(publication.files)
    dataset_json = files.pop("dataset.json", None)
    is_same = dataset_json == FileEntry(size=len(data), sha256=sha256(data).hexdigest()) and root == publication.root
    published_media = {name: file for name, file in files.items() if name.endswith(".tar")}
    if not is_same or published_media != media or "manifest.parquet" not in files:
        raise InputError(
            f"{redact_url(url)}: {INDEX_NAME} and dataset.json do not agree: it is being published again, or was "
            "altered. Try again later, or ask its publisher"
        )
    return files


def _fetch_recipe(url: str, out: Path, publication: Publication, progress: Progress) -> None:
    allowed = (LOCK_NAME, CARD_NAME, SPLITS_NAME)
    files = {name: file for name, file in publication.files.items() if name in allowed}
    if (out / "dataset.json").exists():
        raise InputError(f"{out} holds a dataset, and {redact_url(url)} is a recipe: give another folder")
    total = _check_disk_space(out, files, url)
    step = progress("fetch", total, total)
    run_parallel(sorted(files), lambda name, report: _download(url, out, name, files[name], report), step)


def _download(url: str, out: Path, name: str, file: FileEntry, step: Step) -> None:
    source = remote.join_url(url, *name.split("/"))
    remote.download_file(source, out / name, size=file.size, sha256=file.sha256, step=step)


def _download_tables(url: str, out: Path, *, clips: bool) -> None:
    """Download the tables of a copied folder, whose bytes have no published digest.

    The content of the manifest is checked by the caller, the index of the clips by `mesm-data verify`.
    """
    required = ("manifest.parquet", *(("video/index.parquet",) if clips else ()))
    for name in (*required, "failures.csv", LOCK_NAME):
        try:
            data = remote.read_bytes(remote.join_url(url, *name.split("/")), limit=MAX_TABLE)
        except RemoteFileNotFound:
            if name in required:
                raise
            continue
        with atomic_write(out / name) as file:
            file.write(data)


def _check_folder(out: Path, root: str, files: FileEntries) -> None:
    """Raise InputError if `out` holds anything that is not part of this dataset."""
    for folder in (out, *out.parents):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file: give a folder")
    if (out / ".build").exists():
        raise InputError(f"{out} is the folder of a build: give another folder")
    if (out / "dataset.json").exists() and (other_root := read_dataset_info(out)["root"]) != root:
        raise InputError(f"{out} holds another dataset (root {other_root}): give another folder")
    for name in ("shards", "video"):
        for path in sorted((out / name).glob("*.tar")):
            if f"{name}/{path.name}" not in files:
                raise InputError(f"{path} is not part of this dataset: give another folder, or remove it")


def _check_disk_space(out: Path, files: FileEntries, url: str) -> int:
    """The total number of bytes of `files`. Raises InputError if the missing ones do not fit on the disk."""
    existing = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    missing = sum(file.size for name, file in files.items() if not (out / name).exists())
    parts = (part for folder in (out, out / "shards", out / "video") for part in folder.glob(".*.part"))
    partial = sum(part.stat().st_size for part in parts)
    free = shutil.disk_usage(existing).free + partial
    if missing > free:
        raise InputError(
            f"{redact_url(url)} needs {missing / 2**30:.1f} GiB more in {out}, where {free / 2**30:.1f} GiB are free: "
            "free some space, or give another folder"
        )
    return sum(file.size for file in files.values())

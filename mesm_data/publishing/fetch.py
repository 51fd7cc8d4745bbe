"""URL -> DIR. Every file is checked before it is put in place; dataset.json comes last."""

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from mesm_data.dataset.dataset_dir import read_dataset_info
from mesm_data.dataset.description import (
    MAX_INFO_BYTES,
    FileEntries,
    FileEntry,
    check_manifest_digest,
    listed_files,
    parse_dataset_info,
)
from mesm_data.errors import InputError
from mesm_data.publishing.contents import CARD, INDEX, LOCK, Publication, read_publication
from mesm_data.storage import remote
from mesm_data.storage.files import atomic_write
from mesm_data.storage.parallel import Progress, parallel
from mesm_data.storage.remote_errors import Absent, shown

SMALL = 256 * 2**20  # bytes of a table whose size is not published


def fetch(
    url: str, out: Path, *, progress: Callable[[int], Progress] = lambda total: lambda number: None
) -> tuple[str, str]:
    """Fetch what was published at `url` into the folder `out`; the same call goes on where a stopped one ended.

    Returns the tier ("copy" for a dataset's folder that nobody published but somebody put there) and the root.
    `progress(total)` is called with the bytes that there are; what it returns is told of those that are here. Raises
    InputError if there is nothing to fetch, it is not sound, `out` holds something else or lacks room; MesmError if a
    file cannot be had or is not the published one.
    """
    published = _publication(url)
    if published and published.tier == "recipe":
        _fetch_recipe(url, out, published, progress)
        return published.tier, published.root
    where = remote.join(url, "dataset.json")
    try:
        data = remote.read_bytes(where, limit=MAX_INFO_BYTES)
    except Absent:
        begun = ": it is being published, or that was stopped. Ask its publisher to run the same command again"
        none = ": there is no dataset. Give the URL that `mesm-data publish` was given"
        raise InputError(f"{shown(url)} holds no dataset.json{begun if published else none}") from None
    said = parse_dataset_info(data, shown(where))
    files = listed_files(said, shown(where))
    if published:
        files = _agreed(files, data, said["root"], published, url)
    _check_place(out, said["root"], files)
    report = progress(_check_room(out, files, url))
    parallel(sorted(files), lambda name, step: _get(url, out, name, files[name], step), report)
    if not published:
        _small(url, out, clips=bool(said["video"]))
    check_manifest_digest(out, said)
    with atomic_write(out / "dataset.json") as file:
        file.write(data)
    return published.tier if published else "copy", said["root"]


def _publication(url: str) -> Publication | None:
    index = remote.join(url, INDEX)
    try:
        return read_publication(remote.read_bytes(index, limit=MAX_INFO_BYTES), shown(index))
    except Absent:
        return None


def _agreed(listed: FileEntries, data: bytes, root: str, published: Publication, url: str) -> FileEntries:
    """All files of a publication but dataset.json. Raises InputError if its two lists do not agree."""
    files = dict(published.files)
    index = files.pop("dataset.json", None)
    same = index == FileEntry(size=len(data), sha256=sha256(data).hexdigest()) and root == published.root
    media = {name: file for name, file in files.items() if name.endswith(".tar")}
    if not same or media != listed or "manifest.parquet" not in files:
        raise InputError(
            f"{shown(url)}: {INDEX} and dataset.json do not agree: it is being published anew, or was altered. "
            "Try again later, or ask its publisher"
        )
    return files


def _fetch_recipe(url: str, out: Path, published: Publication, progress: Callable[[int], Progress]) -> None:
    allowed = (LOCK, CARD, "splits.json")
    files = {name: file for name, file in published.files.items() if name in allowed}
    if (out / "dataset.json").exists():
        raise InputError(f"{out} holds a dataset, and {shown(url)} is a recipe: give another folder")
    report = progress(_check_room(out, files, url))
    parallel(sorted(files), lambda name, step: _get(url, out, name, files[name], step), report)


def _get(url: str, out: Path, name: str, file: FileEntry, progress: Progress) -> None:
    source = remote.join(url, *name.split("/"))
    remote.fetch_file(source, out / name, size=file.size, sha256=file.sha256, progress=progress)


def _small(url: str, out: Path, *, clips: bool) -> None:
    """The tables of a folder that was copied, not published: dataset.json has no digest of their bytes.

    The manifest's content is checked afterwards, the clips' index by `mesm-data verify`.
    """
    needed = ("manifest.parquet", *(("video/index.parquet",) if clips else ()))
    for name in (*needed, "failures.csv", LOCK):
        try:
            data = remote.read_bytes(remote.join(url, *name.split("/")), limit=SMALL)
        except Absent:
            if name in needed:
                raise
            continue
        with atomic_write(out / name) as file:
            file.write(data)


def _check_place(out: Path, root: str, files: FileEntries) -> None:
    """Raises InputError if `out` holds anything that is not of this dataset."""
    for place in (out, *out.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"{place} is a file: give a folder")
    if (out / ".build").exists():
        raise InputError(f"{out} is the place of a build: give another folder")
    if (out / "dataset.json").exists() and (held := read_dataset_info(out)["root"]) != root:
        raise InputError(f"{out} holds another dataset (root {held}): give another folder")
    for folder in ("shards", "video"):
        for path in sorted((out / folder).glob("*.tar")):
            if f"{folder}/{path.name}" not in files:
                raise InputError(f"{path} is not of this dataset: give another folder, or remove it")


def _check_room(out: Path, files: FileEntries, url: str) -> int:
    """All bytes of `files`. Raises InputError if those that are not here do not fit on the disk."""
    existing = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    missing = sum(file.size for name, file in files.items() if not (out / name).exists())
    parts = (part for folder in (out, out / "shards", out / "video") for part in folder.glob(".*.part"))
    here = sum(part.stat().st_size for part in parts)
    free = shutil.disk_usage(existing).free + here
    if missing > free:
        raise InputError(
            f"{shown(url)} needs {missing / 2**30:.1f} GiB more in {out}, and {free / 2**30:.1f} GiB are free there: "
            "make room, or give another folder"
        )
    return sum(file.size for file in files.values())

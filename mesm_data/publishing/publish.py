"""DIR -> URL. dataset.json goes last, so that whoever finds it finds all; what is there already is not sent again."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mesm_data.dataset.dataset_dir import read_dataset_info, schema_from_info
from mesm_data.dataset.description import (
    MAX_INFO_BYTES,
    FileEntry,
    check_manifest_digest,
    listed_files,
    parse_dataset_info,
)
from mesm_data.dataset.summary import inspect
from mesm_data.errors import InputError, MesmError
from mesm_data.publishing import card
from mesm_data.publishing.contents import CARD, INDEX, LOCK, SPLITS, Publication, read_publication, small_files
from mesm_data.publishing.terms import check_access, statement
from mesm_data.storage import remote
from mesm_data.storage.json_files import write_json
from mesm_data.storage.parallel import WORKERS, Progress, parallel
from mesm_data.storage.remote_bytes import local
from mesm_data.storage.remote_errors import Absent, shown


def publish(
    path: Path,
    url: str,
    *,
    tier: str = "recipe",
    holder_of: str | None = None,
    progress: Callable[[int], Progress] = lambda total: lambda number: None,
) -> Publication:
    """Publish the dataset in the folder `path`; the same call goes on where a stopped one ended.

    `progress(total)` is called with the bytes that there are; what it returns is told of those that are there or sent.
    Raises InputError if it may not be published so (see terms.py), `url` holds another dataset, or `path` is none;
    MesmError if a file is not as dataset.json says, or cannot be sent.
    """
    read_dataset_info(path)
    said = parse_dataset_info((path / "dataset.json").read_bytes(), str(path / "dataset.json"))
    today = datetime.date.today().isoformat()
    stated = statement(said, tier, holder_of, today)
    _check_place(path, url)
    check_access(url, tier)
    before = _there(url, said, tier)
    check_manifest_digest(path, said)
    if stated and before and before.statement:
        stated |= {"date": before.statement["date"]}
    files = {name: FileEntry.of(path / name) for name in ([LOCK] if (path / LOCK).is_file() else [])}
    if tier != "recipe":
        files = listed_files(said, str(path)) | {name: FileEntry.of(path / name) for name in small_files(path, said)}
    made = Publication(
        tier=tier, corpus=said["corpus"], synthetic=said["synthetic"], root=said["root"], statement=stated, files=files,
        date=before.date if before else today,
    )  # fmt: skip
    report = progress(sum(file.size for file in files.values()))
    # Commits to one repository of the Hub exclude each other.
    workers = 1 if url.startswith("hf://") else WORKERS
    parallel(sorted(files), lambda name, step: _send(path / name, url, name, files[name], step), report, workers)
    with TemporaryDirectory(prefix="mesm-publish-") as folder:
        _finish(path, url, said, made, Path(folder))
    return made


def _finish(path: Path, url: str, said: dict[str, Any], made: Publication, folder: Path) -> None:
    """Send what is written for the publication: the card and the splits, then the index, then dataset.json."""
    (folder / CARD).write_text(card.card(said, made, inspect(path)), encoding="utf-8")
    write_json(folder / SPLITS, card.splits(path, schema_from_info(path, said)))
    last = {INDEX: folder / INDEX}
    made.files.update({name: FileEntry.of(folder / name) for name in (CARD, SPLITS)})
    if made.tier != "recipe":
        made.files["dataset.json"] = FileEntry.of(path / "dataset.json")
        last["dataset.json"] = path / "dataset.json"
    write_json(folder / INDEX, made.as_dict())
    for name, file in ({name: folder / name for name in (CARD, SPLITS)} | last).items():
        _send(file, url, name, FileEntry.of(file), lambda _: None)


def _send(path: Path, url: str, name: str, file: FileEntry, progress: Progress) -> None:
    """Send one file, unless it is there. Raises MesmError if it is not what dataset.json says."""
    target = remote.join(url, *name.split("/"))
    progress(0)
    if not remote.holds(target, size=file.size, sha256=file.sha256):
        says = f"`mesm-data verify {path.parents[name.count('/')]}` says more"
        if not path.is_file():
            raise MesmError(f"{path} is missing, and dataset.json names it: {says}")
        if FileEntry.of(path) != file:
            raise MesmError(f"{path} is not sent: it has not the size and sha256 that dataset.json names. {says}")
        remote.put_file(path, target, sha256=file.sha256)
    progress(file.size)


def _check_place(path: Path, url: str) -> None:
    if url.startswith(("http://", "https://")):
        raise InputError(f"{shown(url)}: nothing can be sent to http(s); give a folder, s3://, hf:// or another store")
    target = local(url)
    if target and target.resolve().is_relative_to(path.resolve()):
        raise InputError(f"{url} lies in the dataset's own folder: give another place")


def _there(url: str, said: dict[str, Any], tier: str) -> Publication | None:
    """The publication that stands at `url`. Raises InputError if it is of another dataset or tier."""
    found = None
    try:
        index = remote.join(url, INDEX)
        found = read_publication(remote.read_bytes(index, limit=MAX_INFO_BYTES), shown(index))
        root, other = found.root, found.tier
    except Absent:
        root, other = said["root"], tier
    try:
        root = json.loads(remote.read_bytes(remote.join(url, "dataset.json"), limit=MAX_INFO_BYTES))["root"]
    except Absent:
        pass
    except (ValueError, TypeError, KeyError, RecursionError):
        root = "unknown"
    if root != said["root"]:
        raise InputError(
            f"{shown(url)} holds another dataset (root {root!s:.64}; this one has {said['root']}): give another URL, "
            "or remove what is there"
        )
    if other != tier:
        raise InputError(f"{shown(url)} holds this dataset as tier {other}: give another URL, or remove what is there")
    return found

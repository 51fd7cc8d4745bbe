"""Uploads a dataset. dataset.json goes last, so that readers who find it find all files; existing files are skipped."""

import datetime
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mesm_data.dataset.dataset_dir import read_dataset_info, schema_from_info
from mesm_data.dataset.description import (
    MAX_INFO_BYTES,
    check_manifest_digest,
    listed_files,
    parse_dataset_info,
)
from mesm_data.dataset.info import FileEntry
from mesm_data.dataset.summary import inspect
from mesm_data.errors import InputError, MesmError
from mesm_data.integrity.lock_writer import LOCK_NAME
from mesm_data.publishing.card import describe_splits, render_card
from mesm_data.publishing.contents import (
    CARD_NAME,
    INDEX_NAME,
    SPLITS_NAME,
    Publication,
    Tier,
    extra_files,
    read_publication,
)
from mesm_data.publishing.terms import check_access, licence_statement
from mesm_data.storage import remote
from mesm_data.storage.json_files import write_json
from mesm_data.storage.parallel import MAX_CONNECTIONS, run_parallel
from mesm_data.storage.progress import Progress, Step, no_progress, no_step
from mesm_data.storage.remote_bytes import is_http, local_path
from mesm_data.storage.remote_errors import RemoteFileNotFound, redact_url


def publish(
    path: Path,
    url: str,
    *,
    tier: Tier = "recipe",
    holder_of: str | None = None,
    progress: Progress = no_progress,
) -> Publication:
    """Publish a dataset. Interrupted, the same call continues.

    Args:
        path: The folder of the dataset.
        url: Where to publish it.
        tier: recipe, gated or private.
        holder_of: The corpus whose licence the publisher claims to hold.
        progress: The phase is "publish"; its units are the bytes that are uploaded or skipped.

    Raises:
        InputError: The licence or the access of `url` does not allow it (see terms.py), `url` holds another dataset,
            or `path` is not a dataset.
        MesmError: A file is not as dataset.json describes it, or cannot be uploaded.
    """
    read_dataset_info(path)
    info = parse_dataset_info((path / "dataset.json").read_bytes(), str(path / "dataset.json"))
    today = datetime.date.today().isoformat()
    statement = licence_statement(info, tier, holder_of, today)
    _check_url(path, url)
    check_access(url, tier)
    earlier = _earlier_publication(url, info, tier)
    check_manifest_digest(path, info)
    if statement and earlier and earlier.statement:
        statement = statement.model_copy(update={"date": earlier.statement.date})
    if tier == "recipe":
        files = {name: FileEntry.of(path / name) for name in ([LOCK_NAME] if (path / LOCK_NAME).is_file() else [])}
    else:
        files = listed_files(info) | {name: FileEntry.of(path / name) for name in extra_files(path, info)}
    publication = Publication(
        tier=tier,
        corpus=info["corpus"],
        synthetic=info["synthetic"],
        root=info["root"],
        statement=statement,
        files=files,
        date=earlier.date if earlier else today,
    )
    total = sum(file.size for file in files.values())
    step = progress("publish", total, total)
    # The Hub does not allow concurrent commits to one repository.
    workers = 1 if url.startswith("hf://") else MAX_CONNECTIONS
    run_parallel(
        sorted(files), lambda name, report: _upload(path / name, url, name, files[name], report), step, workers
    )
    with TemporaryDirectory(prefix="mesm-publish-") as folder:
        _finish(path, url, info, publication, Path(folder))
    return publication


def _finish(path: Path, url: str, info: dict[str, Any], publication: Publication, folder: Path) -> None:
    """Upload what is generated for the publication: the card and the splits, then the index, then dataset.json.

    Args:
        path: The folder of the dataset.
        url: Where it is published.
        info: The content of dataset.json.
        publication: The publication, whose files are completed.
        folder: A temporary folder.
    """
    (folder / CARD_NAME).write_text(render_card(info, publication, inspect(path)), encoding="utf-8")
    write_json(folder / SPLITS_NAME, describe_splits(path, schema_from_info(path, info)))
    publication.files.update({name: FileEntry.of(folder / name) for name in (CARD_NAME, SPLITS_NAME)})
    last = [folder / INDEX_NAME]
    if publication.tier != "recipe":
        publication.files["dataset.json"] = FileEntry.of(path / "dataset.json")
        last.append(path / "dataset.json")
    write_json(folder / INDEX_NAME, publication.model_dump())
    for file in (folder / CARD_NAME, folder / SPLITS_NAME, *last):
        _upload(file, url, file.name, FileEntry.of(file), no_step)


def _upload(path: Path, url: str, name: str, expected: FileEntry, step: Step) -> None:
    """Upload one file, unless it exists there. Raises MesmError if the local file is not `expected`."""
    target = remote.join_url(url, *name.split("/"))
    step(0)
    if not remote.has_file(target, size=expected.size, sha256=expected.sha256):
        advice = f"run `mesm-data verify {path.parents[name.count('/')]}` for details"
        if not path.is_file():
            raise MesmError(f"{path} is missing, and dataset.json names it: {advice}")
        if FileEntry.of(path) != expected:
            raise MesmError(f"{path} is not uploaded: its size or sha256 is not what dataset.json names; {advice}")
        remote.upload_file(path, target, sha256=expected.sha256)
    step(expected.size)


def _check_url(path: Path, url: str) -> None:
    """Raise InputError if nothing can be uploaded to `url`, or if it lies in the dataset's own folder."""
    if is_http(url):
        raise InputError(f"{redact_url(url)}: {remote.NO_UPLOAD}")
    target = local_path(url)
    if target and target.resolve().is_relative_to(path.resolve()):
        raise InputError(f"{url} lies in the dataset's own folder: choose another target")


def _earlier_publication(url: str, info: dict[str, Any], tier: str) -> Publication | None:
    """The publication that already lies at `url`. Raises InputError if it is of another dataset or tier."""
    publication = None
    root, published_tier = info["root"], tier
    try:
        index = remote.join_url(url, INDEX_NAME)
        publication = read_publication(remote.read_bytes(index, limit=MAX_INFO_BYTES), redact_url(index))
        root, published_tier = publication.root, publication.tier
    except RemoteFileNotFound:
        pass
    try:
        root = json.loads(remote.read_bytes(remote.join_url(url, "dataset.json"), limit=MAX_INFO_BYTES))["root"]
    except RemoteFileNotFound:
        pass
    except (ValueError, TypeError, KeyError, RecursionError):
        root = "unknown"
    remedy = "give another URL, or remove what is there"
    if root != info["root"]:
        raise InputError(
            f"{redact_url(url)} holds another dataset (root {root!s:.64}; this one has {info['root']}): {remedy}"
        )
    if published_tier != tier:
        raise InputError(f"{redact_url(url)} holds this dataset as tier {published_tier}: {remedy}")
    return publication

"""Feature sets beside the shards of a remote dataset: fetched into the cache of shards, checked by their digests."""

import mmap
import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.remote_shards import RemoteShards
from mesm_data.errors import InputError
from mesm_data.features.feature_set import FOLDER, FeatureSet, open_set, read_set
from mesm_data.storage import remote
from mesm_data.storage.files import atomic_write
from mesm_data.storage.remote_errors import RemoteFileNotFound, redact_url

MAX_BYTES = {"index.parquet": 2**28, "features.json": 2**26}  # features.json is written last


def open_set_of(dataset: Dataset, name: str) -> FeatureSet:
    """The feature set `name` of a dataset in a folder or at a URL.

    Raises:
        InputError: There is no such set, or its files contradict each other.
        MesmError: The server cannot be reached, or has another file than features.json names.
    """
    if not isinstance(dataset.store, RemoteShards):
        return open_set(dataset.path, name)
    store, url = dataset.store, remote.join_url(dataset.store.url, FOLDER, name)
    try:
        contents = {file: remote.read_bytes(remote.join_url(url, file), limit=MAX_BYTES[file]) for file in MAX_BYTES}
    except RemoteFileNotFound as error:
        raise InputError(
            f"{error}. Compute the features {name!r} where the dataset lies, with `mesm-data features`, and copy the "
            f"folder {FOLDER}/{name} to {redact_url(url)}"
        ) from None
    # Named by its content: a set that is computed again there is another one here.
    folder = dataset.path / FOLDER / f"{name}-{sha256(b''.join(contents.values())).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        with atomic_write(folder / file) as opened:
            opened.write(content)
    try:
        features = read_set(folder)
    except InputError as error:
        raise InputError(f"{redact_url(url)} cannot be used: {error}") from None
    entry, place = features.info["tar"], remote.join_url(url, "values.tar")
    copy = store.folder / f"features-{name}-{entry['sha256'][:16]}.tar"
    return replace(
        features,
        data=_fetch_tar(store, place, copy, entry["size"], entry["sha256"]),
        repair_hint=f"delete {copy}, the copy of {redact_url(place)}, and it is fetched again",
    )


def _fetch_tar(store: RemoteShards, url: str, copy: Path, size: int, digest: str) -> memoryview:
    """The bytes of values.tar in the cache, which keeps the copy as long as they are used: it is one of its shards."""
    while (descriptor := store.cache.pin(copy, size)) is None:
        with store.cache.write_lock(store.root, copy.name, wait=True) as writer:
            assert writer is not None  # of `wait`
            store.cache.reserve(writer, size, force=True)
            remote.download_file(url, copy, size=size, sha256=digest)
    try:
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)  # the map has a copy of it, which holds the lock

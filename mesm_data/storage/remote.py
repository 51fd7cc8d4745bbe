"""Reading, downloading and uploading local and remote files.

Accepts a path, file://, http(s):// (read only), s3://, hf://, and any other URL of fsspec. A download is resumed,
retried with exponential backoff, checked against its digest, and only then put in place. Credentials are those that
s3fs and huggingface_hub take from the environment (AWS_*, AWS_ENDPOINT_URL, HF_TOKEN); no message contains them.
"""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import cast
from urllib.parse import quote, urlsplit, urlunsplit

from mesm_data.errors import InputError, MesmError
from mesm_data.storage.file_locks import is_named, lock_file
from mesm_data.storage.files import atomic_write, make_durable, make_folder, open_for_update, sha256_file, sync_folder
from mesm_data.storage.machine_errors import translate_machine_errors
from mesm_data.storage.progress import Step, no_step
from mesm_data.storage.remote_bytes import (
    CHUNK_BYTES,
    RANGE_BYTES,
    RetryPolicy,
    file_size,
    is_http,
    iter_chunks,
    local_path,
    open_store,
    url_scheme,
    with_retries,
)
from mesm_data.storage.remote_errors import RemoteFileNotFound, RetryableError, map_errors, redact_url

MAX_CHECKSUM_FAILURES = 3  # complete downloads with a wrong digest
NO_UPLOAD = "uploading to http(s) is not supported; give a folder, s3://, hf:// or another store"


def join_url(url: str, *names: str) -> str:
    """The URL of a file under `url`. The query of `url` (a signature, for example) stays at the end."""
    if not is_http(url):
        return "/".join((url.rstrip("/"), *names))
    parts = urlsplit(url)
    path = "/".join((parts.path.rstrip("/"), *map(quote, names)))
    return urlunsplit(parts._replace(path=path))


def read_bytes(url: str, *, limit: int) -> bytes:
    """Read a small file completely.

    Raises:
        InputError: The file does not exist, or has more than `limit` bytes.
        MesmError: The server cannot be reached.
    """

    def read() -> bytes:
        data = bytearray()
        for chunk in iter_chunks(url, 0, limit + 1):
            data += chunk
            if len(data) > limit:
                raise InputError(f"{redact_url(url)} has more than {limit} bytes, which no such file has")
        return bytes(data)

    return with_retries(url, read)


def download_file(url: str, target: Path, *, size: int, sha256: str, step: Step = no_step) -> None:
    """Download a file to `target`, which appears complete and checked or not at all.

    Does nothing if `target` is already the file. The partial download is kept in .NAME.DIGEST.part beside it; a later
    call, also of another process, resumes it. Concurrent calls for one file wait for each other.

    Args:
        url: The address of the file.
        target: Where it appears.
        size: Its number of bytes.
        sha256: Its digest.
        step: Called with the number of bytes gained, including those that a partial download already had; with a
            negative number when a complete download is wrong and is discarded; with 0 before a pause. An exception
            that it raises ends the download.

    Raises:
        MesmError: The file cannot be downloaded, or is not the file that `size` and `sha256` describe.
    """
    part = target.with_name(f".{target.name}.{sha256[:12]}.part")
    with translate_machine_errors(target):
        make_folder(target.parent)
        with _exclusive_part_file(part) as file:
            if target.is_file() and target.stat().st_size == size and sha256_file(target) == sha256:
                step(size)
                part.unlink()
                return
            _download(url, file, size, sha256, step)
            make_durable(file)
            part.replace(target)
            sync_folder(target.parent)


def _download(url: str, file: BufferedRandom, size: int, sha256: str, step: Step) -> None:
    """Complete `file`, which may contain the beginning, to this size and digest."""
    policy = RetryPolicy(url)
    if not is_http(url) and (actual := with_retries(url, lambda: file_size(url))) != size:
        raise MesmError(f"{redact_url(url)} has {actual} bytes, the dataset names {size}: it was replaced or damaged")
    for _ in range(MAX_CHECKSUM_FAILURES):
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
        position = file.tell()
        step(position)
        while position < size:
            before, error = position, RetryableError("it ends too early")
            try:
                for chunk in iter_chunks(url, position, size, exact=True):
                    file.write(chunk)
                    digest.update(chunk)
                    position += len(chunk)
                    step(len(chunk))
            except RetryableError as retryable:
                error = retryable
            file.flush()
            if position < size:
                step(0)  # may raise, to end the download before the pause
                policy.wait(error, position - before)
        if position == size and digest.hexdigest() == sha256:
            return
        file.truncate(0)
        step(-position)
    raise MesmError(
        f"{redact_url(url)} is not the file that the dataset names: sha256 {digest.hexdigest()}, expected {sha256} "
        f"({MAX_CHECKSUM_FAILURES} downloads). It was replaced or damaged there: ask its publisher"
    )


@contextmanager
def _exclusive_part_file(part: Path) -> Iterator[BufferedRandom]:
    """Open the partial file for this thread of this process alone. The kernel releases the lock with the process."""
    while True:
        with open_for_update(part, "a partial download") as file:
            lock_file(file, fcntl.LOCK_EX, part)
            if is_named(part, file):  # while waiting for the lock, its holder may have renamed it
                yield file
                return


def has_file(url: str, *, size: int, sha256: str) -> bool:
    """Whether the file exists with these bytes. Uses the digest that the store keeps; otherwise reads the file."""

    def compare() -> bool:
        if file_size(url) != size:
            return False
        stored_digest = _stored_digest(url)
        if stored_digest is None:
            digest = hashlib.sha256()
            for chunk in iter_chunks(url, 0, size):
                digest.update(chunk)
            stored_digest = digest.hexdigest()
        return stored_digest == sha256

    try:
        return with_retries(url, compare)
    except RemoteFileNotFound:
        return False


def _stored_digest(url: str) -> str | None:
    """The sha256 that a store keeps with a file: on S3 the metadata of `upload_file`, on hf:// that of large files."""
    kind = url_scheme(url)
    if kind not in ("s3", "hf"):
        return None
    store, name = open_store(url)
    with map_errors(url):
        if kind == "s3":
            return cast("str | None", store.metadata(name).get("sha256"))
        return getattr(store.info(name).get("lfs"), "sha256", None)


def upload_file(path: Path, url: str, *, sha256: str) -> None:
    """Upload a file, replacing an existing one atomically (on disk and in object stores).

    Args:
        path: The local file.
        url: Its address in the store.
        sha256: The digest of the file. S3 keeps it as metadata.

    Raises:
        InputError: `url` cannot be written to.
        MesmError: The upload failed, or the local file has another digest.
    """
    if is_http(url):
        raise InputError(f"{redact_url(url)}: {NO_UPLOAD}")
    if target := local_path(url):
        with path.open("rb") as source, atomic_write(target) as file:
            digest = hashlib.sha256()
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
            if digest.hexdigest() != sha256:
                raise MesmError(f"{path} was changed while it was read: run the same command again")
        return

    def send() -> None:
        store, name = open_store(url)
        with map_errors(url):
            if url_scheme(url) == "s3":
                # An object appears complete or not at all, so the digest in its metadata is its own.
                options = {"Metadata": {"sha256": sha256}, "chunksize": 2 * RANGE_BYTES, "max_concurrency": 2}
                store.put_file(str(path), name, **options)
            else:
                store.makedirs(name.rpartition("/")[0], exist_ok=True)
                store.put_file(str(path), name)

    try:
        with_retries(url, send)
    except RemoteFileNotFound:
        raise InputError(f"{redact_url(url)}: there is no such bucket or repository; create it first") from None

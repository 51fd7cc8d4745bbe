"""Files elsewhere: read, downloaded, sent. A path, file://, http(s):// (reading only), s3://, hf://, any fsspec URL.

A download is resumed, tried again with growing pauses, checked, and only then put in place. Credentials are those that
s3fs and huggingface_hub find in the environment (AWS_*, AWS_ENDPOINT_URL, HF_TOKEN); no message holds any.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedRandom, BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlsplit, urlunsplit

from mesm_data.errors import InputError, MesmError
from mesm_data.storage.file_locks import lock_file
from mesm_data.storage.files import (
    NOT_REGULAR,
    atomic_write,
    make_durable,
    make_folder,
    open_for_update,
    sha256_file,
    sync_folder,
)
from mesm_data.storage.machine_errors import translate_machine_errors
from mesm_data.storage.remote_bytes import (
    BLOCK,
    PIECE,
    Patience,
    http,
    is_http,
    local,
    pieces,
    scheme,
    size_of,
    store_of,
    tried,
)
from mesm_data.storage.remote_errors import Absent, Again, shown, translated

WHOLE = 3  # downloads with a wrong digest, after which a file is given up


def join(url: str, *names: str) -> str:
    """The URL of a file under `url`. A query (a signature, say) stays at the end."""
    if not is_http(url):
        return "/".join((url.rstrip("/"), *names))
    parts = urlsplit(url)
    path = "/".join((parts.path.rstrip("/"), *map(quote, names)))
    return urlunsplit(parts._replace(path=path))


def read_bytes(url: str, *, limit: int) -> bytes:
    """A small file, whole.

    Raises InputError if it is not there or has more than `limit` bytes, MesmError if the server cannot be talked to.
    """

    def read() -> bytes:
        data = bytearray()
        for piece in pieces(url, 0, limit + 1):
            data += piece
            if len(data) > limit:
                raise InputError(f"{shown(url)} has more than {limit} bytes, which no such file has")
        return bytes(data)

    return tried(url, read)


def exists(url: str) -> bool:
    """Whether there is a file. Raises InputError or MesmError if that cannot be found out."""
    try:
        tried(url, (lambda: next(http(url, 0, 1), b"")) if is_http(url) else (lambda: size_of(url)))
    except Absent:
        return False
    return True


def open_stream(url: str, size: int) -> BufferedReader:
    """A file of `size` bytes, to be read from front to back; a connection that breaks is made again where it broke.

    Reading raises InputError or MesmError.
    """
    return BufferedReader(_Stream(url, size), PIECE)


class _Stream(RawIOBase):
    """The bytes of `open_stream`."""

    def __init__(self, url: str, size: int) -> None:
        self._url, self._size, self._position, self._patience = url, size, 0, Patience(url)
        self._pieces, self._rest = pieces(url, 0, size), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the beginning of `buffer`; returns how many bytes that are, 0 at the end."""
        while not self._rest and self._position < self._size:
            self._rest = memoryview(self._next())
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._rest))
        target[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def _next(self) -> bytes:
        try:
            piece = next(self._pieces, b"")
            if not piece:
                raise Again("it ends too early")
        except Again as error:
            self._patience.wait(error)
            self._pieces = pieces(self._url, self._position, self._size)
            return b""
        self._position += len(piece)
        return piece


def fetch_file(
    url: str, target: Path, *, size: int, sha256: str, progress: Callable[[int], object] | None = None
) -> None:
    """Download a file to `target`, which appears whole and checked or not at all; nothing is done if it is there.

    What was downloaded waits in .NAME.DIGEST.part beside it and is gone on with, also by another process (which waits
    while one is at it). `progress` is called with the bytes that were gained: at once with those already there, and
    with a negative number if a download proves wrong and is thrown away; with 0 before a pause. What it raises ends
    the download. Raises MesmError if it cannot be had.
    """
    part = target.with_name(f".{target.name}.{sha256[:12]}.part")
    report = progress or (lambda _: None)
    with translate_machine_errors(target):
        make_folder(target.parent)
        with _alone(part) as file:
            if target.is_file() and target.stat().st_size == size and sha256_file(target) == sha256:
                report(size)
                part.unlink()
                return
            _download(url, file, size, sha256, report)
            make_durable(file)
            part.replace(target)
            sync_folder(target.parent)


def _download(url: str, file: BufferedRandom, size: int, sha256: str, report: Callable[[int], object]) -> None:
    """Fill `file`, which may hold the beginning, until it has this size and digest."""
    patience = Patience(url)
    if not is_http(url) and (there := tried(url, lambda: size_of(url))) != size:
        raise MesmError(f"{shown(url)} has {there} bytes, the dataset names {size}: it was replaced or damaged there")
    for _ in range(WHOLE):
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
        have = file.tell()
        report(have)
        while have < size:
            before, error = have, Again("it ends too early")
            try:
                for piece in pieces(url, have, size, whole=True):
                    file.write(piece)
                    digest.update(piece)
                    have += len(piece)
                    report(len(piece))
            except Again as again:
                error = again
            file.flush()
            if have < size:
                report(0)  # who wants to end it all, does so here
                patience.wait(error, have - before)
        if have == size and digest.hexdigest() == sha256:
            return
        file.truncate(0)
        report(-have)
    raise MesmError(
        f"{shown(url)} is not the file that the dataset names: sha256 {digest.hexdigest()}, expected {sha256} "
        f"({WHOLE} downloads). It was replaced or damaged there: ask whoever published it"
    )


@contextmanager
def _alone(part: Path) -> Iterator[BufferedRandom]:
    """The partial file, for this thread of this process alone. The kernel drops the lock with the process."""
    while True:
        with _open_part(part) as file:
            lock_file(file, fcntl.LOCK_EX, part)
            if _is_named(part, file):
                yield file
                return


def _open_part(part: Path) -> BufferedRandom:
    try:
        return open_for_update(part)
    except OSError as error:
        if error.strerror != NOT_REGULAR:
            raise
        raise InputError(f"{part} stands where a download is kept, and {error.strerror}: remove it") from None


def _is_named(part: Path, file: BufferedRandom) -> bool:
    """Whether the file still has that name. Who held it before may have put it in place, and others come and go."""
    try:
        return os.path.samestat(part.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def holds(url: str, *, size: int, sha256: str) -> bool:
    """Whether the file is there with these bytes: by the digest that the store keeps, else by reading it."""

    def look() -> bool:
        if size_of(url) != size:
            return False
        recorded = _recorded_digest(url)
        if recorded is None:
            digest = hashlib.sha256()
            for piece in pieces(url, 0, size):
                digest.update(piece)
            recorded = digest.hexdigest()
        return recorded == sha256

    try:
        return tried(url, look)
    except Absent:
        return False


def _recorded_digest(url: str) -> str | None:
    """The sha256 that a store keeps with a file: on S3 what `put_file` sent along, on hf:// that of a large file."""
    kind = scheme(url)
    if kind not in ("s3", "hf"):
        return None
    store, name = store_of(url)
    with translated(url):
        if kind == "s3":
            return cast("str | None", store.metadata(name).get("sha256"))
        return getattr(store.info(name).get("lfs"), "sha256", None)


def put_file(path: Path, url: str, *, sha256: str) -> None:
    """Send a file; what stood there is replaced, on disk and in object stores at once. `sha256` is kept with it (S3).

    Raises InputError where nothing can be sent to, MesmError if it does not work or the file has another digest.
    """
    if is_http(url):
        raise InputError(f"{shown(url)}: nothing can be sent to http(s); give a folder, s3://, hf:// or another store")
    if target := local(url):
        with path.open("rb") as source, atomic_write(target) as file:
            digest = hashlib.sha256()
            while piece := source.read(PIECE):
                digest.update(piece)
                file.write(piece)
            if digest.hexdigest() != sha256:
                raise MesmError(f"{path} was changed while it was read: run the same command again")
        return

    def send() -> None:
        store, name = store_of(url)
        with translated(url):
            if scheme(url) == "s3":
                # An object appears whole or not at all, so the digest that came with it is its own.
                facts = {"Metadata": {"sha256": sha256}, "chunksize": 2 * BLOCK, "max_concurrency": 2}
                store.put_file(str(path), name, **facts)
            else:
                store.makedirs(name.rpartition("/")[0], exist_ok=True)
                store.put_file(str(path), name)

    try:
        tried(url, send)
    except Absent:
        raise InputError(f"{shown(url)} cannot be sent: there is no such bucket or repository, make it first") from None

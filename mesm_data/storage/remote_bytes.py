"""The bytes of a file elsewhere, one attempt at a time, and how often attempts are made.

A path, file://, http(s):// (reading only), s3://, hf://, any fsspec URL.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from mesm_data.errors import InputError, MesmError
from mesm_data.storage.files import open_regular_file
from mesm_data.storage.remote_errors import Again, shown, translated

CONNECT = 10.0  # seconds until a server must have answered a connection
STALL = 20.0  # seconds without a byte after which a connection is given up
ATTEMPTS = 6  # failures in a row, and PAUSE seconds after the first, twice as many after each further one
PAUSE = 1.0
LONGEST_PAUSE = 30.0
PROGRESS = 2**20  # bytes that an attempt must have brought for the failures before it to be forgotten
BLOCK = 8 * 2**20  # bytes asked for at once where a store is read in ranges
PIECE = 2**18

T = TypeVar("T")


def local(url: str) -> Path | None:
    """The path that `url` is, or None if it is one of a server. Raises InputError for `s3:/bucket`."""
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    if re.match(r"[a-z0-9]{2,}:/?(?!/)", url):
        raise InputError(f"{shown(url)} is not a URL that is understood: write it as s3://BUCKET/FOLDER")
    return None if "://" in url else Path(url)


class Patience:
    """How often something is tried again: ATTEMPTS failures in a row."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._failures = 0

    def wait(self, error: Again, gained: int = 0) -> None:
        """Pause before the next attempt; `gained` are the bytes of the last. Raises MesmError if it was the last."""
        self._failures = 1 if gained >= PROGRESS else self._failures + 1
        if self._failures >= ATTEMPTS:
            raise MesmError(
                f"{shown(self._url)}: {error} ({ATTEMPTS} attempts). Run the same command again later, it goes on "
                "where it stopped"
            ) from None
        time.sleep(min(PAUSE * 2 ** (self._failures - 1), LONGEST_PAUSE))


def tried(url: str, action: Callable[[], T]) -> T:
    """What `action` returns, which is done again as long as it raises Again."""
    patience = Patience(url)
    while True:
        try:
            return action()
        except Again as error:
            patience.wait(error)


def size_of(url: str) -> int:
    """Bytes of a file on disk or in a store. Raises Absent if there is none."""
    with translated(url):
        if path := local(url):
            info = {"size": path.stat().st_size, "type": "file" if path.is_file() else "directory"}
        else:
            store, name = store_of(url)
            info = store.info(name)
        if info["type"] != "file":
            raise FileNotFoundError
        return int(info["size"])


def pieces(url: str, start: int, end: int, *, whole: bool = False) -> Iterator[bytes]:
    """The bytes [start, end) of a file in pieces; fewer if it ends before. Raises Absent, Again, or another MesmError.

    `whole`: a server that says beforehand that the file does not end at `end` is not listened to.
    """
    if is_http(url):
        yield from http(url, start, end, whole=whole)
    elif path := local(url):
        with translated(url), open_regular_file(path) as file:
            file.seek(start)
            while piece := file.read(min(PIECE, end - start)):
                start += len(piece)
                yield piece
    else:
        store, name = store_of(url)
        while start < end:
            with translated(url):
                piece = store.cat_file(name, start=start, end=min(start + BLOCK, end))
            yield piece
            start += len(piece)
            if len(piece) < BLOCK:
                return


def http(url: str, start: int, end: int, *, whole: bool = False) -> Iterator[bytes]:
    from mesm_data.storage.http_client import get

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with translated(url), get(url, headers, connect=CONNECT, stall=STALL) as response:
        # 200 to a request for a range: the server knows none, and sends the file from its beginning.
        skip = start if response.status_code == 200 else 0
        length = response.raw.length_remaining
        if whole and length is not None and length != end - start + skip:
            raise Again(f"the server has {length + start - skip} bytes of it, the dataset names {end}")
        window, gained = time.monotonic(), 0
        while start < end and (piece := response.raw.read1(PIECE)):
            gained += len(piece)
            if (now := time.monotonic()) > window + 3 * STALL:
                if gained < PIECE:
                    raise Again(f"the server sent {gained} bytes in {3 * STALL:.0f} s")
                window, gained = now, 0
            skipped = min(skip, len(piece))
            skip -= skipped
            if piece := piece[skipped:][: end - start]:
                start += len(piece)
                yield piece


def store_of(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the file's name in it."""
    import fsspec

    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme(url) == "s3":
        limits = {"connect_timeout": CONNECT, "read_timeout": STALL, "retries": {"max_attempts": 0}}
        options["config_kwargs"] = limits
        options |= s3_environment()
    with translated(url):
        store, name = fsspec.url_to_fs(url, **options)
    store.retries = 1  # of s3fs; how often is said here
    return store, name


def s3_environment() -> dict[str, str]:
    """The server and the credentials that the environment names, as arguments of s3fs.

    s3fs reuses a connection that was opened with the same arguments, also after the environment has changed: a notebook
    with renewed credentials would go on with the expired ones.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    variables = {"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "token": "AWS_SESSION_TOKEN"}
    arguments = {name: os.environ.get(variable) for name, variable in variables.items()} | {"endpoint_url": endpoint}
    return {name: value for name, value in arguments.items() if value}


def scheme(url: str) -> str:
    """What stands before ://."""
    return url.partition("://")[0]


def is_http(url: str) -> bool:
    """Whether it is a web server's."""
    return url.startswith(("http://", "https://"))

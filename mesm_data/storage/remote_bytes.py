"""Reading the bytes of a local or remote file, one attempt at a time, and the policy for retries.

Accepts a path, file://, http(s):// (read only), s3://, hf://, and any other URL of fsspec.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from mesm_data.errors import InputError, MesmError
from mesm_data.storage.files import open_regular_file
from mesm_data.storage.remote_errors import RetryableError, map_errors, redact_url

CONNECT_TIMEOUT = 10.0  # seconds
STALL_TIMEOUT = 20.0  # seconds without a byte
MAX_ATTEMPTS = 6  # failures in a row; the pause is FIRST_PAUSE after the first and doubles, up to MAX_PAUSE
FIRST_PAUSE = 1.0  # seconds
MAX_PAUSE = 30.0  # seconds
RESET_BYTES = 2**20  # an attempt that gains this much resets the count of failures
RANGE_BYTES = 8 * 2**20  # of one request to a store
CHUNK_BYTES = 2**18

T = TypeVar("T")


def local_path(url: str) -> Path | None:
    """The local path that `url` denotes; None if it is remote. Raises InputError for `s3:/bucket`."""
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    if re.match(r"[a-z0-9]{2,}:/?(?!/)", url):
        raise InputError(f"{redact_url(url)} is not a valid URL: write it as s3://BUCKET/FOLDER")
    return None if "://" in url else Path(url)


class RetryPolicy:
    """Allows MAX_ATTEMPTS failures in a row, with exponential backoff."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._failures = 0

    def wait(self, error: RetryableError, gained: int = 0) -> None:
        """Pause before the next attempt.

        Args:
            error: Why the last attempt failed.
            gained: Bytes that the last attempt received.

        Raises:
            MesmError: That was the last attempt.
        """
        self._failures = 1 if gained >= RESET_BYTES else self._failures + 1
        if self._failures >= MAX_ATTEMPTS:
            raise MesmError(
                f"{redact_url(self._url)}: {error} ({MAX_ATTEMPTS} attempts). Run the same command again later: it "
                "resumes where it stopped"
            ) from None
        time.sleep(min(FIRST_PAUSE * 2 ** (self._failures - 1), MAX_PAUSE))


def with_retries(url: str, action: Callable[[], T]) -> T:
    """Call `action` until it no longer raises RetryableError, and return its result. Raises MesmError otherwise."""
    policy = RetryPolicy(url)
    while True:
        try:
            return action()
        except RetryableError as error:
            policy.wait(error)


def file_size(url: str) -> int:
    """The size in bytes of a local file or a file in a store (not http). Raises RemoteFileNotFound."""
    with map_errors(url):
        if path := local_path(url):
            info = {"size": path.stat().st_size, "type": "file" if path.is_file() else "directory"}
        else:
            store, name = open_store(url)
            info = store.info(name)
        if info["type"] != "file":
            raise FileNotFoundError
        return int(info["size"])


def iter_chunks(url: str, start: int, end: int, *, exact: bool = False) -> Iterator[bytes]:
    """Yield the bytes [start, end) of a file in chunks; fewer bytes if the file is shorter.

    Args:
        url: The address of the file.
        start: The first byte.
        end: The byte after the last one.
        exact: Fail at once if a web server announces that the file does not end at `end`.

    Raises:
        RemoteFileNotFound: The file does not exist.
        RetryableError: Another attempt may succeed.
        MesmError: The file cannot be read.
    """
    if is_http(url):
        yield from iter_http_chunks(url, start, end, exact=exact)
    elif path := local_path(url):
        with map_errors(url), open_regular_file(path) as file:
            file.seek(start)
            while chunk := file.read(min(CHUNK_BYTES, end - start)):
                start += len(chunk)
                yield chunk
    else:
        store, name = open_store(url)
        while start < end:
            with map_errors(url):
                chunk = store.cat_file(name, start=start, end=min(start + RANGE_BYTES, end))
            yield chunk
            start += len(chunk)
            if len(chunk) < RANGE_BYTES:
                return


def iter_http_chunks(url: str, start: int, end: int, *, exact: bool = False) -> Iterator[bytes]:
    """`iter_chunks` of a web server."""
    from mesm_data.storage.http_client import open_response

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with map_errors(url), open_response(url, headers, connect=CONNECT_TIMEOUT, stall=STALL_TIMEOUT) as response:
        # Status 200 in response to a range: the server does not support ranges and sends the file from its beginning.
        skip = start if response.status_code == 200 else 0
        length = response.raw.length_remaining
        if exact and length is not None and length != end - start + skip:
            raise RetryableError(f"the server has {length + start - skip} bytes of it, the dataset names {end}")
        window_start, gained = time.monotonic(), 0
        while start < end and (chunk := response.raw.read1(CHUNK_BYTES)):
            gained += len(chunk)
            if (now := time.monotonic()) > window_start + 3 * STALL_TIMEOUT:
                if gained < CHUNK_BYTES:
                    raise RetryableError(f"the server sent {gained} bytes in {3 * STALL_TIMEOUT:.0f} s")
                window_start, gained = now, 0
            skipped = min(skip, len(chunk))
            skip -= skipped
            if chunk := chunk[skipped:][: end - start]:
                start += len(chunk)
                yield chunk


def open_store(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the name of the file in it."""
    import fsspec

    options: dict[str, Any] = {"use_listings_cache": False}
    if url_scheme(url) == "s3":
        limits = {"connect_timeout": CONNECT_TIMEOUT, "read_timeout": STALL_TIMEOUT, "retries": {"max_attempts": 0}}
        options["config_kwargs"] = limits
        options |= s3_environment()
    with map_errors(url):
        store, name = fsspec.url_to_fs(url, **options)
    store.retries = 1  # of s3fs: RetryPolicy alone decides
    return store, name


def s3_environment() -> dict[str, str]:
    """The endpoint and credentials that the environment names, as arguments of s3fs.

    s3fs reuses a connection that was opened with equal arguments, even if the environment has changed since: without
    these arguments, a notebook with renewed credentials would go on with the expired ones.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    variables = {"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "token": "AWS_SESSION_TOKEN"}
    arguments = {name: os.environ.get(variable) for name, variable in variables.items()} | {"endpoint_url": endpoint}
    return {name: value for name, value in arguments.items() if value}


def url_scheme(url: str) -> str:
    """The part of a URL before "://"."""
    return url.partition("://")[0]


def is_http(url: str) -> bool:
    """Whether the URL is http:// or https://."""
    return url.startswith(("http://", "https://"))

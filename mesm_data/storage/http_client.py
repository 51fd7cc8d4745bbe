"""HTTP GET from an untrusted server: checked redirects, credentials for one origin only, a time limit per read.

Import this module where it is used: loading `requests` takes 0.1 s.
"""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from socket import socket
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_auth_from_url, get_netrc_auth
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from mesm_data.errors import MesmError
from mesm_data.storage.remote_errors import redact_url

MAX_REDIRECTS = 10
READ_TIMEOUT_FACTOR = 3  # the limit of a read is the timeout of the socket times this
_PORTS = {"http": 80, "https": 443}


@contextmanager
def open_response(url: str, headers: dict[str, str], *, connect: float, stall: float) -> Iterator[requests.Response]:
    """Send a GET request and yield the response, which has status 200 or 206 and whose body has not been read.

    Read the body with `response.raw.read1`. The bodies of redirects and errors are not read. Credentials in the URL or
    in ~/.netrc are sent only to the scheme, host and port of `url`.

    Args:
        url: The address.
        headers: Headers of the request.
        connect: Seconds to open the connection.
        stall: Seconds without a byte. READ_TIMEOUT_FACTOR times as long is the limit for the head of a response, and
            for each call of `read1`.

    Raises:
        MesmError: A redirect is not acceptable.
        requests.RequestException: The request failed.
    """
    url_credentials = get_auth_from_url(url)
    location, credentials = url, url_credentials if any(url_credentials) else get_netrc_auth(url)
    for _ in range(1 + MAX_REDIRECTS):
        # An `auth` that adds nothing keeps requests from looking up the host in ~/.netrc.
        auth = credentials if credentials and _origin(location) == _origin(url) else _no_credentials
        # A new session for each request: cookies are credentials too.
        with (
            _session() as session,
            session.get(location, headers=headers, auth=auth, stream=True, timeout=(connect, stall)) as response,
        ):
            target = requests.Session.get_redirect_target(session, response)
            if target is None:
                response.raise_for_status()
                if response.status_code not in (200, 206):
                    raise requests.HTTPError(response=response)
                yield response
                return
            location = _redirected(location, target)
    raise MesmError(f"{redact_url(url)} redirects more than {MAX_REDIRECTS} times: give the URL of the file itself")


def _redirected(source: str, target: str) -> str:
    """The absolute URL of a redirect from `source`. Raises MesmError if it must not be followed."""
    url = urljoin(source, target)
    scheme = urlsplit(url).scheme
    if scheme not in _PORTS:
        raise MesmError(
            f"{redact_url(source)} redirects to something other than http(s): give the URL of the file itself"
        )
    if scheme == "http" and urlsplit(source).scheme == "https":
        raise MesmError(f"{redact_url(source)} redirects from https to unencrypted http, which is not followed")
    return url


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: otherwise requests reads the whole body of a redirect, even if it does not follow it."""


def _session() -> requests.Session:
    session = _Session()
    for scheme in _PORTS:
        session.mount(f"{scheme}://", _Adapter())
    return session


class _LimitedSocket(io.RawIOBase):
    """Reads a socket with a time limit: READ_TIMEOUT_FACTOR times the socket's timeout, counted from `restart`.

    The socket's own timeout applies to each byte: a server that sends a byte now and then would block the reader for
    ever.
    """

    def __init__(self, sock: socket, file: io.RawIOBase) -> None:
        self._sock, self._file, self._stall = sock, file, sock.gettimeout() or 0.0
        self.restart()

    def restart(self) -> None:
        self._end = time.monotonic() + READ_TIMEOUT_FACTOR * self._stall

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time limit for a response has passed")
        self._sock.settimeout(min(left, self._stall))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Response(HTTPResponse):
    """A response with a time limit for its head and for each `read1`, including chunk headers and trailers."""

    def __init__(self, sock: socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._limited = _LimitedSocket(sock, self.fp.detach())
        self.fp = io.BufferedReader(self._limited)

    def read1(self, n: int = -1) -> bytes:
        self._limited.restart()
        return super().read1(n)


class _Http(HTTPConnection):
    response_class = _Response


class _Https(HTTPSConnection):
    response_class = _Response


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


class _Adapter(HTTPAdapter):
    """Opens connections of these classes, with and without a proxy."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager

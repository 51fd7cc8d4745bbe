"""HTTP GET without trust in the server: manual redirects, credentials for one origin, a time limit for every read.

Import this module where it is used: `requests` takes 0.1 s to load.
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
from mesm_data.storage.remote_errors import shown

REDIRECTS = 10
READ_LIMIT = 3  # times the timeout of the socket
_PORTS = {"http": 80, "https": 443}


@contextmanager
def get(url: str, headers: dict[str, str], *, connect: float, stall: float) -> Iterator[requests.Response]:
    """The response to a GET request, with status 200 or 206. Its body has not been read.

    Read the body with `response.raw.read1`. Bodies of redirects and errors are not read. Credentials in the URL or in
    ~/.netrc are sent to the scheme, host and port of `url` only.

    Args:
        connect: seconds to open the connection.
        stall: seconds without a byte; READ_LIMIT times as long is the limit for the whole head of a response, and for
            each call of `read1`.

    Raises MesmError if the redirects are not acceptable, otherwise what `requests` raises.
    """
    in_url = get_auth_from_url(url)
    place, credentials = url, in_url if any(in_url) else get_netrc_auth(url)
    for _ in range(1 + REDIRECTS):
        # An auth that adds nothing keeps requests from looking up the host in ~/.netrc.
        auth = credentials if credentials and _origin(place) == _origin(url) else _no_credentials
        # A new session for each request: cookies are credentials too.
        with (
            _session() as session,
            session.get(place, headers=headers, auth=auth, stream=True, timeout=(connect, stall)) as response,
        ):
            location = requests.Session.get_redirect_target(session, response)
            if location is None:
                response.raise_for_status()
                if response.status_code not in (200, 206):
                    raise requests.HTTPError(response=response)
                yield response
                return
            place = _redirected(place, location)
    raise MesmError(f"{shown(url)} redirects more than {REDIRECTS} times: give the URL of the file itself")


def _redirected(place: str, location: str) -> str:
    """The URL that a redirect from `place` leads to. Raises MesmError if it may not be followed."""
    target = urljoin(place, location)
    scheme = urlsplit(target).scheme
    if scheme not in _PORTS:
        raise MesmError(f"{shown(place)} redirects to something other than http(s): give the URL of the file itself")
    if scheme == "http" and urlsplit(place).scheme == "https":
        raise MesmError(f"{shown(place)} redirects from https to unencrypted http, which is not followed")
    return target


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: for any other answer requests reads the whole body of the redirect, even if it does not follow it."""


def _session() -> requests.Session:
    session = _Session()
    for scheme in _PORTS:
        session.mount(f"{scheme}://", _Adapter())
    return session


class _LimitedSocket(io.RawIOBase):
    """The bytes of a socket. Reading raises TimeoutError READ_LIMIT times the socket's timeout after `restart`.

    The timeout of a socket alone counts from byte to byte: one byte now and then would hold the reader for ever.
    """

    def __init__(self, sock: socket, file: io.RawIOBase) -> None:
        self._sock, self._file, self._stall = sock, file, sock.gettimeout() or 0.0
        self.restart()

    def restart(self) -> None:
        self._end = time.monotonic() + READ_LIMIT * self._stall

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time limit of a response is over")
        self._sock.settimeout(min(left, self._stall))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Response(HTTPResponse):
    """A response with a time limit for its head and for each `read1`, which includes chunk headers and trailers."""

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
    """Makes connections of these classes, through a proxy or not."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager

"""A NiceGUI page on this machine only: it listens on the loopback address and answers to no other name.

NiceGUI is the extra `app`. It serves its scripts and fonts itself, so the page works without a network.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from mesm_data.errors import InputError

HOST = "127.0.0.1"
PORT = 8765
MAX_BODY = 2**20  # bytes of a request, unless the page takes uploads

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def require_nicegui() -> None:
    """Raises InputError, naming the extra, if NiceGUI is not installed."""
    from importlib.util import find_spec

    if find_spec("nicegui") is None:
        raise InputError("this page needs NiceGUI: pip install 'mesm[app]'")


def serve(
    page: Callable[[], None], *, title: str, port: int, ready: Callable[[str], object], max_body: int = MAX_BODY
) -> None:
    """Serve a page until the process is stopped.

    Args:
        page: builds the page for each visitor, with NiceGUI's elements.
        title: of the page.
        port: to listen on; 0: any free one.
        ready: called with the address when the page can be opened.
        max_body: bytes of a request; larger ones are refused before they are read.

    Raises:
        InputError: the port is in use.
    """
    from nicegui import app, ui
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(f"--port {port} cannot be used ({error.strerror}): choose another one") from None
        port = probe.getsockname()[1]
    # A page elsewhere whose name resolves to this machine (DNS rebinding) is refused by its Host header.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    app.add_middleware(BodyLimit, limit=max_body)
    app.on_startup(partial(_announce, port, ready))  # no lambda: older versions do not await what it returns
    ui.run(
        page, host=HOST, port=port, title=title, show=False, reload=False, dark=None, show_welcome_message=False,
        storage_secret=None, uvicorn_logging_level="error",
    )  # fmt: skip


async def _announce(port: int, ready: Callable[[str], object]) -> None:
    """Call `ready` when the port answers; the server starts to listen after its startup handlers."""
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        ready(f"http://{HOST}:{port}/")
        return


class BodyLimit:
    """Refuses requests whose body is larger than `limit` bytes, or whose length is not stated.

    A visitor who closes the page in the middle of an upload is no error of the server.
    """

    def __init__(self, app: App, *, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 411 or 413, or 400 to a body that breaks off."""
        from starlette.requests import ClientDisconnect

        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            headers = dict(scope["headers"])
            length = headers.get(b"content-length", b"")
            if b"transfer-encoding" in headers or (length and not length.isdigit()):
                await _refuse(send, 411)
                return
            if int(length or 0) > self.limit:
                await _refuse(send, 413)
                return
        try:
            await self.app(scope, receive, send)
        except ClientDisconnect:
            await _refuse(send, 400)


async def _refuse(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": b""})

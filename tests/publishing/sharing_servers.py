"""Servers on 127.0.0.1 for the tests of sharing: plain HTTP with faults, and S3 (moto) behind a gate."""

import functools
import http.server
import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

Fault = Callable[["Answer"], None]


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers GET from a folder, with byte ranges unless told otherwise. A fault may answer instead."""

    server: "Web"

    def do_GET(self) -> None:
        name = self.path.lstrip("/").partition("?")[0]
        self.server.asked.append((name, self.headers.get("Range")))
        if fault := self.server.fault(name):
            fault(self)
            return
        self.send()

    def send(self, *, upto: int | None = None, says: int | None = None) -> None:
        """The file from where it was asked for; `upto` ends it before, `says` is another Content-Length."""
        path = self.server.folder / self.path.lstrip("/").partition("?")[0]
        if not path.is_file():
            self.status(404)
            return
        data = path.read_bytes()
        begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if self.server.ranges else None
        body = data[int(begin[1]) :] if begin else data
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin[1]}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(body) if says is None else says))
        self.end_headers()
        self.wfile.write(body[:upto])

    def status(self, number: int) -> None:
        self.send_response(number)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Web(http.server.ThreadingHTTPServer):
    """`faults` are used up one a request (None: none); `asked` are the requests: name, Range."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder, self.ranges = folder, True
        self.faults: list[Fault | None] = []
        self.always: Callable[[str], Fault | None] = lambda name: None
        self.asked: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.thread = threading.Thread(target=functools.partial(self.serve_forever, poll_interval=0.01))
        self.thread.start()

    def fault(self, name: str) -> Fault | None:
        return self.faults.pop(0) if self.faults else self.always(name)

    def handle_error(self, *_: Any) -> None:
        """Clients that are killed break off."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


class Store:
    """S3 with one bucket. `gate` sees each request (method, path) before it is answered."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").disabled = True
        self.asked: list[tuple[str, str]] = []
        self.busy = 0  # requests that are answered with 503
        self.gate: Callable[[str, str], None] = lambda method, path: None
        moto = DomainDispatcherApplication(create_backend_app)

        def app(environ: dict[str, Any], start: Any) -> Any:
            self.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
            self.gate(*self.asked[-1])
            if self.busy:
                self.busy -= 1
                start("503 Slow Down", [("Content-Type", "application/xml")])
                return [b"<Error><Code>SlowDown</Code><Message>later</Message></Error>"]
            return moto(environ, start)

        self.server = make_server("127.0.0.1", 0, app, threaded=True)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def sent(self) -> list[str]:
        """The keys that were put since `asked` was last cleared."""
        return [path.removeprefix("/bucket/") for method, path in self.asked if method == "PUT"]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

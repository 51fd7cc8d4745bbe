"""A Hugging Face Hub on 127.0.0.1 with one public model, as far as huggingface_hub needs it to fetch the model."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Handler(BaseHTTPRequestHandler):
    """Answers the three kinds of requests: the commit of a revision, the files of a commit, and a file."""

    def __init__(self, name: str, folder: Path, requests: list[str], *arguments: Any) -> None:
        self.name, self.folder, self.requests = name, folder, requests
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.requests.append(f"{self.command} {path}")
        files = {str(file.relative_to(self.folder)): file for file in self.folder.rglob("*") if file.is_file()}
        api, resolve = f"/api/models/{self.name}", f"/{self.name}/resolve/"
        if path in (api, f"{api}/revision/main"):
            siblings = [{"rfilename": file} for file in files]
            self._json({"id": self.name, "modelId": self.name, "sha": COMMIT, "siblings": siblings})
        elif path == f"{api}/tree/{COMMIT}":
            entries = [(name, file.stat().st_size, digest(file)) for name, file in files.items()]
            self._json([{"type": "file", "path": name, "size": size, "oid": oid} for name, size, oid in entries])
        elif path.startswith(resolve) and (file := files.get(path.removeprefix(resolve).partition("/")[2])):
            self._send(file.read_bytes(), {"ETag": f'"{digest(file)}"', "X-Repo-Commit": COMMIT})
        else:
            error = "EntryNotFound" if path.startswith((api, resolve)) else "RepoNotFound"
            self._send(b"", {"X-Error-Code": error}, status=404)

    def _json(self, content: Any) -> None:
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def digest(file: Path) -> str:
    """The name of a blob."""
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextmanager
def hub(name: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve `folder` as the model `name`: the address of the Hub, and the requests that it has had."""
    requests: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, name, folder, requests))
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

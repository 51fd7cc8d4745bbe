"""A real S3 server (moto) on this machine, and faults in front of it. Its objects can also be read as plain http."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from mesm_data.dataset.dataset_dir import write_dataset
from mesm_data.dataset.parts import read_part
from mesm_data.dataset.reader import Dataset
from mesm_data.pipeline.unpack import PartUnpacker
from mesm_data.storage.json_files import read_json

BUCKET = "corpora"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
LONG = 30.0  # seconds that a stalled answer waits at most


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


class ObjectStore:
    """`faults`: what goes wrong at the next requests for a file, by its last part. `sent`: bytes by file.

    A fault is a number (the HTTP status), "cut" (half of the answer), "bad" (one byte differs) or "stall" (half of the
    answer, and the rest when `gate` is opened). `on_get` is called with the file's name before it is sent.
    """

    def __init__(self) -> None:
        self.faults: dict[str, list[int | str]] = {}
        self.sent: Counter[str] = Counter()
        self.gate, self.stalled = Event(), Event()
        self.on_get: Callable[[str], object] = lambda _: None
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.environment = {**KEYS, "AWS_ENDPOINT_URL": self.endpoint}
        self._client = boto3.client(
            "s3", endpoint_url=self.endpoint, aws_access_key_id="test", aws_secret_access_key="test"
        )
        self._client.create_bucket(Bucket=BUCKET)

    def put(self, folder: Path, name: str) -> None:
        """Upload what a folder holds; everybody may read it, without keys too."""
        for path in folder.rglob("*"):
            if path.is_file():
                place = f"{name}/{path.relative_to(folder)}"
                self._client.upload_file(str(path), BUCKET, place, ExtraArgs={"ACL": "public-read"})

    def fresh(self) -> "ObjectStore":
        """Without faults and counts."""
        self.gate.set()
        self.faults, self.sent, self.on_get = {}, Counter(), lambda _: None
        self.gate, self.stalled = Event(), Event()
        return self

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        name = environ["PATH_INFO"].rpartition("/")[2]
        if environ["REQUEST_METHOD"] != "GET":
            return self._app(environ, start_response)
        self.on_get(name)
        fault = (self.faults.get(name) or [None]).pop(0)
        if isinstance(fault, int):
            start_response(f"{fault} INJECTED", [("Content-Length", "0")])
            return [b""]
        body = b"".join(self._app(environ, start_response))
        if fault == "bad":
            body = body[:-600] + bytes([body[-600] ^ 1]) + body[-599:]
        self.sent[name] += len(body)
        if fault == "cut":
            return [body[: len(body) // 2]]
        if fault == "stall":
            return self._halves(body, self.gate)
        return [body]

    def _halves(self, body: bytes, gate: Event) -> Iterable[bytes]:
        yield body[: len(body) // 2]
        self.stalled.set()
        gate.wait(LONG)
        yield body[len(body) // 2 :]


def in_many_shards(source: Path, out: Path, limit: int) -> None:
    """The dataset `source` without clips, in shards of at most `limit` bytes."""
    parts = out / ".parts"
    parts.mkdir(parents=True)
    PartUnpacker(source).write_part(parts, "all", Dataset(source).keys, lambda _: True)
    rows = [{**row, "source": "all", "group": "all"} for row in read_part(parts, "all") or ()]
    for row in rows:
        row.pop("clip", None)
    info = read_json(source / "dataset.json")
    facts = {
        name: info[name]
        for name in ("corpus", "schema", "recipe", "toolchain", "synthetic", "source", "notes", "findings")
    }
    write_dataset(out, parts, rows, facts, limit=limit, step=lambda _: None)
    for path in sorted(parts.iterdir()):
        path.unlink()
    parts.rmdir()

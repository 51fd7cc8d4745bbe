"""A web server with faults, an S3 store, and short pauses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sharing_servers import Store, Web

from mesm_data.storage import remote_bytes


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(remote_bytes, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(remote_bytes, "STALL_TIMEOUT", 10.0)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    folder = tmp_path / "web"
    folder.mkdir()
    server = Web(folder)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def _store() -> Iterator[Store]:
    server = Store()
    yield server
    server.stop()


@pytest.fixture
def store(_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An S3 store with the bucket `bucket`; its credentials are in the environment."""
    import boto3
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", _store.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMIEXAMPLEKEY")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # s3fs keeps its connections by what it was called with, which leaves out the environment.
    s3fs.S3FileSystem.clear_instance_cache()
    boto3.client("s3").create_bucket(Bucket="bucket")
    _store.asked.clear()
    yield _store
    _store.gate, _store.busy = (lambda method, path: None), 0

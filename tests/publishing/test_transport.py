"""A download is complete and correct, or does not exist; failures of a server are overcome or reported."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error
from sharing_servers import Answer, Store, Web

from mesm_data.errors import InputError, MesmError
from mesm_data.storage import remote, remote_bytes
from mesm_data.storage.remote_errors import map_errors, redact_url

DATA = Random(1).randbytes(3_000_000)
FACTS: dict[str, Any] = {"size": len(DATA), "sha256": sha256(DATA).hexdigest()}


@pytest.fixture
def served(web: Web) -> Web:
    (web.folder / "a.tar").write_bytes(DATA)
    return web


def drop(answer: Answer) -> None:
    """A third of what was asked for, then the connection is closed."""
    answer.send(upto=700_000)


def stall(answer: Answer) -> None:
    """Half a million bytes, then nothing, until the client goes away."""
    answer.send(upto=500_000)
    answer.wfile.flush()
    answer.rfile.read(1)


def fail(answer: Answer) -> None:
    answer.status(500)


def cut(answer: Answer) -> None:
    """A body that is too short, and says that it is all."""
    answer.send(upto=1000, says=1000)


def other(answer: Answer) -> None:
    """Other bytes of the same length."""
    answer.send_response(200)
    answer.send_header("Content-Length", str(len(DATA)))
    answer.end_headers()
    answer.wfile.write(bytes(len(DATA)))


@pytest.mark.parametrize("fault", [drop, stall, fail, cut, other])
@pytest.mark.parametrize("ranges", [True, False])
def test_two_failures_of_a_server_are_retried(
    served: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any, ranges: bool
) -> None:
    if fault is stall:
        monkeypatch.setattr(remote_bytes, "STALL_TIMEOUT", 0.3)
    served.ranges = ranges
    served.faults = [fault, fault]
    steps: list[int] = []
    remote.download_file(f"{served.url}/a.tar", tmp_path / "a.tar", **FACTS, step=steps.append)
    assert (tmp_path / "a.tar").read_bytes() == DATA
    assert sum(steps) == len(DATA)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.tar"]
    assert len(served.asked) == 3 or (fault is stall and len(served.asked) > 3)  # a busy machine stalls too


def test_an_interrupted_download_is_resumed_and_a_complete_one_skipped(served: Web, tmp_path: Path) -> None:
    served.faults = [drop, drop]
    remote.download_file(f"{served.url}/a.tar", tmp_path / "a.tar", **FACTS)
    assert [requested for _, requested in served.asked] == [None, "bytes=700000-", "bytes=1400000-"]
    remote.download_file(f"{served.url}/a.tar", tmp_path / "a.tar", **FACTS)
    assert len(served.asked) == 3


def test_a_failed_download_is_resumed_later_and_a_damaged_part_is_discarded(served: Web, tmp_path: Path) -> None:
    served.faults = [lambda answer: answer.send(upto=100_000)] * remote_bytes.MAX_ATTEMPTS
    with pytest.raises(MesmError, match=r"a\.tar: the connection was interrupted \(6 attempts\)\. Run the same"):
        remote.download_file(f"{served.url}/a.tar", tmp_path / "a.tar", **FACTS)
    [part] = tmp_path.glob(".a.tar.*.part")
    assert part.stat().st_size == 600_000
    part.write_bytes(bytes(600_000))
    served.asked.clear()
    remote.download_file(f"{served.url}/a.tar", tmp_path / "a.tar", **FACTS)
    assert [requested for _, requested in served.asked] == ["bytes=600000-", None]
    assert (tmp_path / "a.tar").read_bytes() == DATA


def test_progress_resets_the_count_of_attempts(served: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_bytes, "RESET_BYTES", 100_000)
    served.faults = [lambda answer: answer.send(upto=200_000)] * 12
    remote.download_file(f"{served.url}/a.tar", tmp_path / "a.tar", **FACTS)
    assert len(served.asked) == 13


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (drop, None),
        (stall, "does not respond, or has stopped sending"),
        (fail, "HTTP 500"),
        (cut, "the server has 1000 bytes of it, the dataset names 3000000"),
        (other, "is not the file that the dataset names"),
        (lambda answer: answer.status(404), "does not exist"),
        (lambda answer: answer.status(403), "access denied"),
        (lambda answer: answer.status(418), "responds with HTTP 418"),
    ],
)
def test_a_failed_download_is_one_message_and_leaves_no_file(
    served: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any, reason: str | None
) -> None:
    if fault is stall:
        monkeypatch.setattr(remote_bytes, "STALL_TIMEOUT", 0.1)
    served.ranges = False
    served.always = lambda name: fault
    with pytest.raises(MesmError, match=reason or "was interrupted"):
        remote.download_file(f"{served.url}/a.tar", tmp_path / "a.tar", **FACTS)
    assert not (tmp_path / "a.tar").exists()


def test_a_server_that_sends_a_byte_now_and_then_times_out(
    served: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_bytes, "MAX_ATTEMPTS", 1)
    monkeypatch.setattr(remote_bytes, "STALL_TIMEOUT", 0.7)
    ended = threading.Event()

    def drip(answer: Answer) -> None:
        answer.send(upto=1)
        while not ended.wait(0.03):
            answer.wfile.write(b"x")

    served.always = lambda name: drip
    try:
        with pytest.raises(MesmError, match=r"the server sent \d+ bytes in"):
            remote.download_file(f"{served.url}/a.tar", tmp_path / "a.tar", **FACTS)
    finally:
        ended.set()


def test_an_unreachable_server_is_reported(tmp_path: Path, web: Web) -> None:
    web.server_close()
    with pytest.raises(MesmError, match="no connection"):
        remote.read_bytes(f"{web.url}/dataset.json", limit=10)


def test_concurrent_downloads_of_a_file_transfer_it_once(served: Web, tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        downloads = [
            pool.submit(remote.download_file, f"{served.url}/a.tar", tmp_path / "a.tar", **FACTS) for _ in range(6)
        ]
    assert [each.result() for each in downloads] == [None] * 6
    assert (tmp_path / "a.tar").read_bytes() == DATA
    assert len(served.asked) == 1
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_reported(served: Web, small_disk: Any) -> None:
    place = small_disk("1m")
    with pytest.raises(MesmError, match="the disk is full"):
        remote.download_file(f"{served.url}/a.tar", place / "a.tar", **FACTS)
    assert not (place / "a.tar").exists()


@pytest.mark.parametrize("kind", ["s3", "memory", "file", "path"])
def test_an_uploaded_file_exists_and_downloads_unchanged(
    kind: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small, larger than a block that is read at once, and of several parts."""
    base = {"s3": "s3://bucket/some", "memory": "memory://some", "file": f"file://{tmp_path}/some"}
    url = base.get(kind, str(tmp_path / "some"))
    block = 5 * 2**19  # two of them are the smallest part that S3 takes
    monkeypatch.setattr(remote_bytes, "RANGE_BYTES", block)
    for size in (0, 10, block, 2 * block + 1, *([5 * block] if kind == "s3" else [])):
        data = Random(size).randbytes(size)
        source, place = tmp_path / "source", remote.join_url(url, "shards", f"{size}.tar")
        facts: dict[str, Any] = {"size": size, "sha256": sha256(data).hexdigest()}
        source.write_bytes(data)
        assert not remote.has_file(place, **facts)
        remote.upload_file(source, place, sha256=facts["sha256"])
        assert remote.has_file(place, **facts)
        assert not remote.has_file(place, size=size, sha256="0" * 64)
        remote.download_file(place, tmp_path / "back", **facts)
        assert (tmp_path / "back").read_bytes() == data
        with pytest.raises(MesmError, match=f"has {size} bytes, the dataset names {size + 1}"):
            remote.download_file(place, tmp_path / "more", size=size + 1, sha256="0" * 64)
        with pytest.raises(InputError, match="does not exist"):
            remote.read_bytes(remote.join_url(url, "none"), limit=10)


def test_a_busy_store_is_retried(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"some")
    digest = sha256(b"some").hexdigest()
    store.busy = 3
    remote.upload_file(source, "s3://bucket/busy", sha256=digest)
    store.busy = 3
    remote.download_file("s3://bucket/busy", tmp_path / "back", size=4, sha256=digest)
    assert (tmp_path / "back").read_bytes() == b"some"
    assert store.busy == 0
    store.busy = 10**6
    with pytest.raises(MesmError, match=r"the store is busy, or has failed \(6 attempts\)"):
        remote.read_bytes("s3://bucket/busy", limit=10)


def test_a_small_file_is_read_up_to_its_limit(served: Web) -> None:
    url = f"{served.url}/a.tar"
    assert remote.read_bytes(url, limit=len(DATA)) == DATA
    with pytest.raises(InputError, match="has more than 2999999 bytes"):
        remote.read_bytes(url, limit=len(DATA) - 1)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3:/bucket/x", "write it as s3://"),
        ("nothing://x/y", "cannot be used"),
        ("http://[x/y", "cannot be used"),
        ("s3://absent-bucket/x", "does not exist"),
    ],
)
def test_an_invalid_url_is_reported(url: str, message: str, store: Store) -> None:
    with pytest.raises(InputError, match=message):
        remote.read_bytes(url, limit=10)


def test_uploads_to_web_servers_and_missing_buckets_are_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    for url, message in (("https://x/y", "uploading to http"), ("s3://absent-bucket/x", "create it first")):
        with pytest.raises(InputError, match=message):
            remote.upload_file(tmp_path / "x", url, sha256=sha256(b"x").hexdigest())


def test_names_are_joined_before_the_query_and_no_message_contains_a_secret(web: Web) -> None:
    url = remote.join_url(web.url.replace("//", "//me:secret@") + "/some?signature=hidden", "a b.tar")
    assert url.endswith("/some/a%20b.tar?signature=hidden")
    with pytest.raises(InputError) as raised:
        remote.read_bytes(url, limit=10)
    assert str(raised.value) == f"{web.url}/some/a%20b.tar does not exist"
    assert redact_url("s3://bucket/x") == "s3://bucket/x"
    assert remote.join_url("/data/", "shards", "a.tar") == "/data/shards/a.tar"


def test_pauses_grow_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(remote_bytes.time, "sleep", slept.append)
    monkeypatch.setattr(remote_bytes, "MAX_ATTEMPTS", 12)
    patience = remote_bytes.RetryPolicy("https://x/y")
    for _ in range(11):
        patience.wait(remote_bytes.RetryableError("why"))
    with pytest.raises(MesmError, match="12 attempts"):
        patience.wait(remote_bytes.RetryableError("why"))
    assert all(after >= before for before, after in pairwise(slept))
    assert max(slept) <= remote_bytes.MAX_PAUSE


def test_a_missing_package_is_named_with_the_line_that_installs_it() -> None:
    with (
        pytest.raises(InputError, match=r"s3://bucket/x needs s3fs: pip install 'mesm\[s3\]'"),
        map_errors("s3://bucket/x"),
    ):
        raise ImportError("Install s3fs to access S3")
    with pytest.raises(MesmError, match="refused"), map_errors("s3://bucket/x"):
        raise OSError(errno.EINVAL, "InvalidRange")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("ExpiredToken", r"access denied \(ExpiredToken: the credentials have expired\)"),
        ("400", r"access denied \(HTTP 400 without a reason"),  # of a HEAD request, whose response has no body
        ("RequestTimeTooSkewed", "the clock of this machine is wrong"),
        ("InvalidAccessKeyId", r"access denied \(InvalidAccessKeyId\); credentials are taken from the environment"),
        ("AccessDenied", "access denied; credentials"),
        ("403", "access denied; credentials"),
    ],
)
def test_why_s3_denies_access_is_said(code: str, reason: str) -> None:
    refused = ClientError({"Error": {"Code": code, "Message": "x"}}, "HeadObject")
    with pytest.raises(InputError, match=reason), map_errors("s3://bucket/x"):
        raise translate_boto_error(refused)

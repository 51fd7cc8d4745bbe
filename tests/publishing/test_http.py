"""A web server cannot make a client read without end, nor send credentials to anyone but the server they are for."""

import ipaddress
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sharing_servers import Answer, Web

from mesm_data.errors import MesmError
from mesm_data.storage import http_client, remote, remote_bytes

DATA = b"some bytes"
ENDLESS = 64 * 2**20  # bytes after which an endless body ends, so that a client that reads it fails its test


@pytest.fixture
def served(web: Web) -> Web:
    (web.folder / "a").write_bytes(DATA)
    return web


@pytest.fixture
def other(served: Web) -> Iterator[Web]:
    """A second server with the same files on another port."""
    server = Web(served.folder)
    yield server
    server.stop()


@pytest.fixture
def encrypted(served: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """An https server with the same files, whose self-made certificate is trusted."""
    make_certificate(tmp_path / "server.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "server.pem"))
    server = Web(served.folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    yield server
    server.stop()


def make_certificate(path: Path) -> None:
    """Write the key and certificate of a server at 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))


def redirect(location: str) -> Callable[[Answer], None]:
    def answer_with(answer: Answer) -> None:
        answer.send_response(302)
        answer.send_header("Location", location)
        answer.send_header("Content-Length", "0")
        answer.end_headers()

    return answer_with


def test_the_body_of_a_redirect_is_not_read(served: Web) -> None:
    written, ended = [0], threading.Event()

    def endless(answer: Answer) -> None:
        answer.send_response(302)
        answer.send_header("Location", "/a")
        answer.end_headers()
        try:
            while written[0] < ENDLESS:
                written[0] += answer.wfile.write(bytes(2**16))
        except OSError:
            pass  # the client closed the connection
        ended.set()

    served.faults = [endless]
    assert remote.read_bytes(f"{served.url}/b", limit=100) == DATA
    assert ended.wait(30)
    assert written[0] < ENDLESS


@pytest.mark.parametrize("place", ["netrc", "URL"])
def test_credentials_go_to_the_same_scheme_host_and_port_only(
    served: Web, other: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    url = f"{served.url}/b"
    if place == "netrc":
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    else:
        url = url.replace("//", "//me:secret@")
    received: list[tuple[str, str | None]] = []

    def record(fault: Callable[[Answer], None]) -> Callable[[Answer], None]:
        def answer_with(answer: Answer) -> None:
            received.append((answer.path, answer.headers.get("Authorization")))
            fault(answer)

        return answer_with

    served.faults = [record(redirect("/c")), record(redirect(f"{other.url}/d")), record(Answer.send)]
    other.faults = [record(redirect(f"{served.url}/a"))]
    assert remote.read_bytes(url, limit=100) == DATA
    secret = f"Basic {b64encode(b'me:secret').decode()}"
    assert received == [("/b", secret), ("/c", secret), ("/d", None), ("/a", secret)]


def test_no_credentials_and_no_request_follow_a_redirect_from_https_to_http(
    encrypted: Web, served: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    encrypted.faults = [redirect(f"{served.url}/a")]
    with pytest.raises(MesmError, match=r"https://127\.0\.0\.1:\d+/b redirects from https to unencrypted http"):
        remote.read_bytes(f"{encrypted.url}/b", limit=100)
    assert served.asked == []
    served.faults = [redirect(f"{encrypted.url}/a")]
    assert remote.read_bytes(f"{served.url}/b", limit=100) == DATA, "from http to https is followed"


def test_cookies_are_not_carried_to_another_request(served: Web, other: Web) -> None:
    cookies: list[str | None] = []

    def with_cookie(answer: Answer) -> None:
        answer.send_response(302)
        answer.send_header("Set-Cookie", "session=secret")
        answer.send_header("Location", f"{other.url}/a")
        answer.send_header("Content-Length", "0")
        answer.end_headers()

    def record(answer: Answer) -> None:
        cookies.append(answer.headers.get("Cookie"))
        answer.send()

    served.faults, other.faults = [with_cookie], [record]
    assert remote.read_bytes(f"{served.url}/b", limit=100) == DATA
    assert cookies == [None]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("/b", "redirects more than 10 times"),
        ("file:///etc/passwd", r"redirects to something other than http\(s\)"),
        ("s3://bucket/key", r"redirects to something other than http\(s\)"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_one_sentence(served: Web, location: str, message: str) -> None:
    served.always = lambda name: redirect(location)
    with pytest.raises(MesmError, match=message):
        remote.read_bytes(f"{served.url}/b", limit=100)
    assert len(served.asked) == (1 + http_client.MAX_REDIRECTS if location == "/b" else 1)


def test_a_response_without_content_is_an_error(served: Web) -> None:
    served.always = lambda name: lambda answer: answer.status(304)
    with pytest.raises(MesmError, match="the server responds with HTTP 304"):
        remote.read_bytes(f"{served.url}/a", limit=100)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "drip", "pause"),
    [
        pytest.param(b"", b"H", 0.01, id="status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X", 0.01, id="header"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0.0, id="100 Continue without end"),
        pytest.param(CHUNKED, b"0", 0.01, id="chunk size"),
        pytest.param(CHUNKED + b"0\r\n", b"X: y\r\n" * 1000, 0.0, id="trailers without end"),
    ],
)
def test_everything_but_the_body_has_a_time_limit(
    served: Web, monkeypatch: pytest.MonkeyPatch, start: bytes, drip: bytes, pause: float
) -> None:
    monkeypatch.setattr(remote_bytes, "STALL_TIMEOUT", 0.1)
    monkeypatch.setattr(remote_bytes, "MAX_ATTEMPTS", 1)
    ended = threading.Event()
    answered = threading.Event()

    def dripping(answer: Answer) -> None:
        try:
            answer.wfile.write(start)
            while not ended.wait(pause):
                answer.wfile.write(drip)
        except OSError:
            answered.set()  # the client closed the connection
        answer.close_connection = True

    served.always = lambda name: dripping
    no_limit = threading.Timer(20, ended.set)
    no_limit.start()
    try:
        with pytest.raises(MesmError, match="the server does not respond, or has stopped sending"):
            remote.read_bytes(f"{served.url}/a", limit=100)
        assert answered.wait(20)
    finally:
        no_limit.cancel()
        ended.set()

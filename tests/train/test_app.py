"""Guarantees of the app: a clip is predicted in a browser without a network, on this machine only, and is deleted."""

import asyncio
import tempfile
from collections.abc import MutableMapping
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest
from browser import TEXTS, browser, loaded_frame, served, upload

import mesm_train
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError, MesmError
from mesm_data.pages import local_server
from mesm_train.app import jobs
from mesm_train.app.jobs import Results, predict_upload, safe_name


@pytest.fixture(scope="module")
def clip(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The video of one utterance of the synthetic corpus."""
    row = pq.read_table(dataset / "video" / "index.parquet").to_pylist()[0]
    path = tmp_path_factory.mktemp("clip") / "utterance.mp4"
    with (dataset / "video" / row["shard"]).open("rb") as shard:
        shard.seek(row["offset"])
        path.write_bytes(shard.read(row["size"]))
    return path


def uploads() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("mesm-app-*"))


def test_a_clip_is_predicted_in_a_browser_and_deleted(
    trained_run: Path, dataset: Path, clip: Path, tmp_path: Path
) -> None:
    before = uploads()
    with served("mesm-train", "app", trained_run, "--device", "cpu") as address, browser(tmp_path) as tab:
        assert "done; the uploaded file is deleted" in upload(tab, address, clip)
        inside = loaded_frame(tab, "[data-effect]")
        assert tab.evaluate(f"{inside}.querySelectorAll('[data-effect]').length") > 10
        assert tab.evaluate(f"{inside}.querySelectorAll('.face').length") > 1
        tab.wait(f"{inside}.querySelector('audio').duration > 0.5")
        best = tab.evaluate(f"{inside}.querySelector('[aria-checked=true] .name').textContent.trim()")
        expected = mesm_train.load(trained_run, device="cpu").predict(clip, allow_missing=True)
        assert best == expected.meaning(str(expected.best))
        colour = f"getComputedStyle({inside}.querySelector('.stretch')).backgroundColor"
        tab.evaluate(f"{inside}.querySelectorAll('[data-output]')[3].click()")
        assert tab.evaluate(f"{inside}.querySelectorAll('[data-output]')[3].getAttribute('aria-checked')") == "true"
        assert tab.evaluate(colour)
        assert tab.outside() == []
        assert tab.errors == []
        assert uploads() == before


def test_the_page_is_served_to_this_machine_only(dataset: Path) -> None:
    with served("mesm-data", "browse", dataset) as address:
        host = urlsplit(address).netloc
        assert answer(host, "GET", {"Host": host}) == 200
        assert answer(host, "GET", {"Host": "attacker.example"}) == 400
        # The bodies are never sent: only an answer that does not wait for them arrives. A client that does send one
        # may find the connection closed before it has read the answer.
        assert answer(host, "POST", {"Host": host, "Content-Length": str(2**20 + 1)}) == 413
        assert answer(host, "POST", {"Host": host, "Content-Length": "many"}) in (400, 411)
        assert answer(host, "POST", {"Host": host, "Transfer-Encoding": "chunked"}) == 411


def test_an_upload_that_breaks_off_is_no_error_of_the_server() -> None:
    requests = pytest.importorskip("starlette.requests")
    sent: list[MutableMapping[str, Any]] = []

    async def app(scope: local_server.Scope, receive: local_server.Receive, send: local_server.Send) -> None:
        await requests.Request(scope, receive).body()

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-length", b"10")]}
    asyncio.run(local_server.BodyLimit(app, limit=20)(scope, receive, send))
    assert sent[0]["status"] == 400


def answer(host: str, method: str, headers: dict[str, str]) -> int:
    """The status that is answered to the head of a request."""
    connection = HTTPConnection(host, timeout=60)
    with closing(connection):
        connection.putrequest(method, "/", skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status


def test_a_dataset_is_filtered_and_an_utterance_opened(dataset: Path, tmp_path: Path) -> None:
    opened = Dataset(dataset)
    with served("mesm-data", "browse", dataset) as address, browser(tmp_path) as tab:
        tab.open(address)
        count = f"{TEXTS}.find(text => /^[\\d,]+ utterances$/.test(text))"
        assert tab.wait(count) == f"{len(opened)} utterances"
        text = opened[opened.keys[5]].text
        same = sum(text.casefold() in opened[key].text.casefold() for key in opened.keys)
        search = "document.querySelector('input[aria-label=\"Transcript or key\"]')"
        tab.evaluate(f"({search}).value = {text!r}; ({search}).dispatchEvent(new Event('input', {{bubbles: true}}))")
        tab.wait(f"({count}) === '{same} utterances'")
        tab.wait(f"document.querySelectorAll('.q-item').length === {same}")
        tab.evaluate("document.querySelector('.q-item').click()")
        inside = loaded_frame(tab, "h1")
        key = next(key for key in opened.keys if text.casefold() in opened[key].text.casefold())
        tab.wait(f"{inside}.querySelector('h1').textContent === '{key}'")
        tab.wait(f"{inside}.querySelectorAll('.words [data-start]').length === {opened.rows[key]['n_words']}")
        tab.evaluate(f"{inside}.querySelector('audio').play()")
        tab.wait(f"{inside}.querySelector('.words .now')")
        assert tab.outside() == []
        assert tab.errors == []


def test_an_unsuitable_upload_is_refused_in_one_sentence_and_leaves_no_file(
    trained_run: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = mesm_train.load(trained_run, device="cpu")
    monkeypatch.setattr(jobs, "MAX_SECONDS", 0.5)
    before = uploads()

    def upload(name: str, content: bytes) -> Path:
        file = jobs.new_upload_folder() / name
        file.write_bytes(content)
        return file

    for name, content, sentence in (
        ("clip.mp4", clip.read_bytes(), "s long; this page takes up to"),
        ("clip.txt", b"hello", "is not that of a video or audio file"),
        ("clip.mp4", b"no media", "clip.mp4"),
    ):
        with pytest.raises(MesmError, match=sentence):
            predict_upload(predictor, upload(name, content), text="")
    assert uploads() == before


def test_names_of_uploads_are_not_used_as_paths_and_old_results_are_deleted() -> None:
    assert safe_name("../../etc/passwd.mp4") == "passwd.mp4"
    assert safe_name("C:\\\\films\\\\a<b>.AVI") == "ab.avi"
    assert safe_name(".mp4").startswith("clip") or safe_name(".mp4") == "mp4"
    assert len(safe_name("x" * 500 + ".mp4")) < 70
    results = Results()
    first = results.add("page")
    assert results.get(first) == "page"
    for number in range(jobs.KEPT_PAGES):
        results.add(str(number))
    assert results.get(first) is None
    assert results.get("guess") is None


def test_a_port_that_is_in_use_is_refused() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind((local_server.HOST, 0))
        taken.listen()
        with pytest.raises(InputError, match=r"--port \d+ cannot be used"):
            local_server.serve(lambda: None, title="", port=taken.getsockname()[1], ready=print)

"""Published lists are saved unchanged, or not at all. They come from a local server."""

import functools
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from mesm_cli.splits import summary_line

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError, MesmError
from mesm_data.schema.built_in import built_in_schema
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.splits import fetch as fetching
from mesm_data.splits import registry
from mesm_data.splits.fetch import fetch_split
from mesm_data.splits.resolve import resolve_split
from mesm_data.splits.rules import named_splits
from mesm_data.storage import remote_bytes

IEMOCAP = built_in_schema("iemocap")
PARTS = ("train", "valid", "test")
Answer = tuple[int, bytes]


class Server:
    """Answers GET from `files`, after one answer of `first` per request: a status and body, or None to disconnect."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.first: list[Answer | None] = []
        self.requests: list[str] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                server.requests.append(name)
                answer: Answer | None = (200, server.files[name]) if name in server.files else (404, b"")
                whole = answer
                if server.first:
                    answer = server.first.pop(0)
                status, body = answer or whole or (404, b"")
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body if answer else body[: len(body) // 2])

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/lists"
        self._thread = threading.Thread(target=functools.partial(self._server.serve_forever, poll_interval=0.01))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(remote_bytes, "FIRST_PAUSE", 0.0)
    http_server = Server()
    yield http_server
    http_server.stop()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESM_SPLITS", str(tmp_path / "splits"))
    return tmp_path / "splits"


@pytest.fixture
def published(server: Server, shared: Path) -> Callable[[str], Server]:
    """The server with the paper's real lists of a corpus."""

    def fill(corpus: str) -> Server:
        for part in PARTS:
            server.files[f"{part}_split.txt"] = (shared / "splits" / f"{corpus}_{part}_split.txt").read_bytes()
        return server

    return fill


def rows(keys: list[str]) -> list[dict[str, Any]]:
    common = {"status": "ok", "reason": None, "speaker": "Ses01F", "start": 0.0, "end": 1.0}
    return [{"key": key, "dialog": f"of {key}", "recording": f"of {key}", **common} for key in keys]


@pytest.mark.parametrize("corpus", ["iemocap", "mosei"])
def test_the_papers_lists_are_available_by_name_once_fetched(
    corpus: str, published: Callable[[str], Server], place: Path
) -> None:
    """The digests and counts in the manifest are those of the real lists."""
    server = published(corpus)
    assert fetch_split(built_in_schema(corpus), "paper", mirror=server.url) == (place / corpus / "paper", True)
    assert fetch_split(built_in_schema(corpus), "paper", mirror=server.url) == (place / corpus / "paper", False)
    assert len(server.requests) == 3
    keys = server.files["test_split.txt"].decode().split()
    split = resolve_split(rows(keys), built_in_schema(corpus), "paper")
    assert (split.name, split.parts["test"]) == ("paper", tuple(sorted(keys)))
    counts = {part: len(server.files[f"{part}_split.txt"].split()) for part in PARTS}
    assert named_splits(built_in_schema(corpus), {})["paper"].counts == counts


def test_a_fetched_list_is_checked_whenever_it_is_used(published: Callable[[str], Server], place: Path) -> None:
    server = published("iemocap")
    folder, _ = fetch_split(IEMOCAP, "paper", mirror=server.url)
    some = rows(server.files["test_split.txt"].decode().split())
    file = folder / "test_split.txt"
    file.write_bytes(file.read_bytes().replace(b"Ses03F_impro03_F018", b"Ses03F_impro03_F019"))
    with pytest.raises(InputError, match=r"test_split.txt is not the published file: .* `mesm-data splits fetch iemo"):
        resolve_split(some, IEMOCAP, "paper")
    assert fetch_split(IEMOCAP, "paper", mirror=server.url)[1]
    assert resolve_split(some, IEMOCAP, "paper").name == "paper"
    file.unlink()
    with pytest.raises(InputError, match=f"{folder} lacks it: run `mesm-data splits fetch iemocap paper`"):
        resolve_split(some, IEMOCAP, "paper")


def test_another_file_is_refused_with_both_digests_and_nothing_is_stored(
    published: Callable[[str], Server], place: Path
) -> None:
    server = published("iemocap")
    right = server.files["valid_split.txt"]
    server.files["valid_split.txt"] = right + b"\n"
    wrong, expected = (sha256(data).hexdigest() for data in (right + b"\n", right))
    with pytest.raises(MesmError, match=f"valid_split.txt is not the published file.*{wrong}.*{expected}") as error:
        fetch_split(IEMOCAP, "paper", mirror=server.url)
    assert error.value.exit_code == 1
    assert not place.exists()


def test_a_failing_server_is_asked_again(published: Callable[[str], Server], place: Path) -> None:
    server = published("iemocap")
    server.first = [(503, b""), None, (429, b"")]
    assert fetch_split(IEMOCAP, "paper", mirror=server.url)[1]
    assert len(server.requests) == 3 + 3


@pytest.mark.parametrize(
    ("first", "reason", "requests"),
    [
        ([(503, b"")] * 9, "responds with HTTP 503", remote_bytes.MAX_ATTEMPTS),
        ([(404, b"")], "does not exist", 1),
        ([(200, bytes(fetching.MAX_BYTES + 1))], "more than 8388608 bytes", 1),
    ],
)
def test_a_list_that_cannot_be_fetched_is_reported_with_manual_instructions(
    published: Callable[[str], Server], place: Path, first: list[Answer], reason: str, requests: int
) -> None:
    server = published("iemocap")
    server.first = list(first)
    with pytest.raises(MesmError, match=reason) as error:
        fetch_split(IEMOCAP, "paper", mirror=server.url)
    assert len(server.requests) == requests
    for part, spec in IEMOCAP.splits["paper"].parts.items():
        assert f"{spec.url}\n    -> {place / 'iemocap' / 'paper' / f'{part}_split.txt'}" in str(error.value)


def test_without_a_network_the_manual_download_is_explained(place: Path, server: Server) -> None:
    server.stop()
    with pytest.raises(
        MesmError, match=r"/lists/\w+.txt: no connection .* Download the files manually and save them as follows:"
    ):
        fetch_split(IEMOCAP, "paper", mirror=server.url)


def test_files_of_the_user_are_not_replaced(published: Callable[[str], Server], place: Path, tmp_path: Path) -> None:
    server = published("iemocap")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "valid_split.txt").write_text("my own")
    with pytest.raises(InputError, match=r"valid_split.txt is not the published file: remove it"):
        fetch_split(IEMOCAP, "paper", tmp_path / "mine", mirror=server.url)
    assert server.requests == []
    folder, _ = fetch_split(IEMOCAP, "paper", tmp_path / "other", mirror=server.url)
    some = rows(server.files["test_split.txt"].decode().split())
    assert resolve_split(some, IEMOCAP, str(folder)).name == "paper"
    assert not place.exists()


@pytest.mark.parametrize(
    ("corpus", "name", "message"),
    [
        ("iemocap", "session-5", "session-5 is a rule and needs no download"),
        ("iemocap", "papr", r"no split 'papr': did you mean paper\? There are session-1"),
        ("imocap", "paper", "no manifest of a corpus 'imocap'"),
    ],
)
def test_unpublished_lists_are_refused(corpus: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fetch_split(built_in_schema(corpus), name)


def test_the_official_folds_are_one_python_file_with_three_lists(server: Server, shared: Path, place: Path) -> None:
    """The SDK's file is not available: the test generates one in its format from the plain lists, and its digest."""
    mosei = built_in_schema("mosei")
    official = named_splits(mosei, {})["official"]
    assert set(official.files) == {"cmu_mosei_std_folds.py"}
    assert len({part.sha256 for part in official.spec.parts.values()}) == 1
    lists = {part: (shared / "splits" / f"mosei_official_{part}_videos.txt").read_text().split() for part in PARTS}
    data = "\n\n".join(f"standard_{part}_fold={ids!r}" for part, ids in lists.items()).encode()
    server.files["cmu_mosei_std_folds.py"] = data
    with pytest.raises(MesmError, match=official.spec.parts["train"].sha256):
        fetch_split(mosei, "official", mirror=server.url)
    ours = mosei.as_mapping()
    for part in ours["splits"]["official"]["parts"].values():
        part["sha256"] = sha256(data).hexdigest()
    mosei = CorpusSchema.parse(ours, "the schema with our own file")
    folder, _ = fetch_split(mosei, "official", mirror=server.url)
    clips = [f"{video}_{clip}" for ids in lists.values() for video in ids for clip in (0, 1)]
    table = [{**one, "dialog": one["key"][:-2], "speaker": one["key"][:-2]} for one in rows(clips)]
    for name in ("official", str(folder)):
        split = resolve_split(table, mosei, name)
        assert (split.name, split.of, split.missing) == ("official", "dialogs", ())
        assert {part: len(keys) for part, keys in split.parts.items()} == {"train": 4498, "valid": 600, "test": 1356}


def test_lists_are_stored_in_the_data_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESM_SPLITS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data/home")
    assert registry.splits_dir() == Path("/data/home/mesm/splits")
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_DATA_HOME", ignored)
        assert registry.splits_dir() == Path.home() / ".local/share/mesm/splits"


def test_the_line_of_a_split_states_its_leaks() -> None:
    summary: dict[str, Any] = {"counts": {"train": 5162, "test": 1481}, "missing": {"failed": 1, "absent": 2}}
    leaks = {"speakers": 10, "dialogs": 151, "overlaps": 7}
    assert summary_line({**summary, "leaks": leaks}) == (
        "train 5162, test 1481 (3 ids missing); LEAKS 10 speakers, 151 dialogs, 7 pairs of overlapping utterances"
    )
    assert summary_line({**summary, "leaks": dict.fromkeys(leaks, 0)}).endswith("; nothing leaks")
    assert summary_line({"reason": "why"}) == "why"


def test_the_command_lists_fetches_and_shows(
    published: Callable[[str], Server], place: Path, dataset: Path, mesm_data: Callable[..., Any], tmp_path: Path
) -> None:
    server = published("iemocap")
    result = mesm_data("splits", "fetch", "iemocap", "paper", "--mirror", server.url)
    assert result.stdout == f"{place / 'iemocap' / 'paper'}\n"
    listed = json.loads(mesm_data("splits", "list", "--json").stdout)
    here = {(one["corpus"], one["name"]): one.get("fetched") for one in listed}
    assert here[("iemocap", "paper")] is True
    assert here[("mosei", "official")] is False
    assert here[("iemocap", "dialog")] is None
    keys = Dataset(dataset).keys
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text("\n".join([*keys[::2], "Ses01F_impro99_F000"]))
    (tmp_path / "lists" / "test.txt").write_text("\n".join(keys[1::2]))
    report = json.loads(mesm_data("splits", "show", tmp_path / "lists", "--data", dataset, "--json").stdout)
    assert report["counts"] == {"train": len(keys[::2]), "test": len(keys[1::2])}
    assert [item["key"] for item in report["missing"]] == ["Ses01F_impro99_F000"]
    assert report["leaks"]["dialogs"] == sorted({key[:-5] for key in keys})
    text = mesm_data("splits", "show", tmp_path / "lists", "--data", dataset).stdout
    assert "Ses01F_impro99_F000 (train): absent" in text
    # The synthetic ids are partly those of the paper's lists.
    paper = resolve_split(Dataset(dataset).rows.values(), IEMOCAP, "paper").summary()
    seen = json.loads(mesm_data("inspect", dataset, "--json").stdout)["splits"]
    assert seen["paper"] == paper
    assert "needs the sessions 5" in seen["session-5"]["reason"]
    assert summary_line(paper) in mesm_data("inspect", dataset).stdout
    refused = mesm_data("splits", "fetch", "iemocap", "dialog", check=False)
    assert (refused.returncode, refused.stdout) == (2, "")

"""What is published is fetched whole and checked, goes out only as far as it may, and no kill leaves half a dataset."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sharing_servers import Answer, Store, Web

from mesm_data.dataset.dataset_dir import read_dataset_info
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.summary import inspect
from mesm_data.errors import InputError, MesmError
from mesm_data.integrity.verify import verify
from mesm_data.publishing.card import render_card
from mesm_data.publishing.fetch import fetch
from mesm_data.publishing.publish import publish
from mesm_data.publishing.terms import check_access, parse_repository

MEDIA = {"manifest.parquet", "shards", "video", "dataset.json", "README.md", "splits.json"}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def few(dataset: Path, tmp_path: Path) -> Path:
    """A copy of the synthetic dataset with all files that may exist beside it."""
    copy = tmp_path / "few"
    shutil.copytree(dataset, copy)
    (copy / ".build").mkdir(exist_ok=True)
    (copy / ".build" / "source.json").write_text('{"root": "/home/somebody/corpus"}')
    (copy / "recipe.lock").write_text('{"lock": 1}\n')
    (copy / "failures.csv").write_text("key,dialog,what,reason\n")
    (copy / "notes.txt").write_text("mine\n")
    return copy


@pytest.fixture
def real(few: Path) -> Path:
    """The same, but it says that it is of recordings."""
    info = json.loads((few / "dataset.json").read_text())
    (few / "dataset.json").write_text(json.dumps({**info, "synthetic": False}))
    return few


@pytest.mark.parametrize("kind", ["path", "file", "memory", "s3"])
def test_a_fetched_dataset_equals_the_published_one(kind: str, few: Path, store: Store, tmp_path: Path) -> None:
    places = {"path": f"{tmp_path}/there", "file": f"file://{tmp_path}/there", "memory": f"memory://{tmp_path.name}"}
    url = places.get(kind, f"s3://bucket/{tmp_path.name}")
    publish(few, url, tier="private")
    tier, root = fetch(url, tmp_path / "back")
    assert (tier, root) == ("private", json.loads((few / "dataset.json").read_text())["root"])
    assert not list(verify(tmp_path / "back"))
    ours = names(few) - {".build/source.json", ".build/groups.json", "notes.txt"}
    assert names(tmp_path / "back") == {name for name in ours if not name.startswith(".build")} | {
        "README.md", "splits.json",
    }  # fmt: skip
    for name in ours & names(tmp_path / "back"):
        assert (tmp_path / "back" / name).read_bytes() == (few / name).read_bytes()
    assert "/home/somebody" not in "".join(
        path.read_text(errors="replace") for path in (tmp_path / "back").iterdir() if path.is_file()
    )


def test_existing_files_are_skipped_and_dataset_json_is_uploaded_last(few: Path, store: Store) -> None:
    url = "s3://bucket/twice"
    publish(few, url, tier="private")
    assert store.sent()[-2:] == ["twice/published.json", "twice/dataset.json"]
    store.asked.clear()
    publish(few, url, tier="private")
    assert store.sent() == []
    import boto3

    damaged = "twice/shards/all-000001.tar"
    boto3.client("s3").put_object(Bucket="bucket", Key=damaged, Body=bytes((few / damaged[6:]).stat().st_size))
    store.asked.clear()
    publish(few, url, tier="private")
    assert store.sent() == [damaged]


def test_the_recipe_tier_contains_nothing_of_the_corpus_and_needs_no_licence(real: Path, tmp_path: Path) -> None:
    publication = publish(real, str(tmp_path / "there"))
    assert publication.tier == "recipe"
    assert names(tmp_path / "there") == {"README.md", "splits.json", "published.json", "recipe.lock"}
    source = Dataset(real)
    everything = "".join((tmp_path / "there" / name).read_text() for name in names(tmp_path / "there"))
    assert not [key for key in source.keys if key in everything or source[key].text in everything]
    assert fetch(str(tmp_path / "there"), tmp_path / "back")[0] == "recipe"
    assert names(tmp_path / "back") == {"README.md", "splits.json", "recipe.lock"}
    with pytest.raises(InputError, match=r"holds no dataset\.json"):
        read_dataset_info(tmp_path / "back")
    splits = json.loads((tmp_path / "back" / "splits.json").read_text())["splits"]
    assert splits["paper"]["files"]["train_split.txt"]["sha256"].startswith("4bbed431")
    assert len(splits["session-1"]["here"]["digest"]) == 64


@pytest.mark.parametrize(("name", "argument"), [("iemocap", "iemocap"), ("mycorpus", "corpus.toml")])
def test_the_card_names_what_builds_the_corpus(few: Path, tmp_path: Path, name: str, argument: str) -> None:
    """A table is no corpus that `mesm-data build` knows by name."""
    publication = publish(few, str(tmp_path / "there"))
    card = render_card(read_dataset_info(few) | {"corpus": name}, publication, inspect(few))
    assert f"mesm-data build {argument} --source DIR --out OUT" in card


def test_media_that_may_not_be_redistributed_need_the_licence_holders_statement(real: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    for tier in ("gated", "private"):
        with pytest.raises(InputError, match=r"iemocap may not be redistributed.*--i-hold-the-licence-for iemocap"):
            publish(real, str(there), tier=tier)
    with pytest.raises(InputError, match="is of iemocap, not of mosei"):
        publish(real, str(there), tier="private", holder_of="mosei")
    assert not there.exists()
    publish(real, str(there), tier="private", holder_of="iemocap")
    card, index = (there / "README.md").read_text(), json.loads((there / "published.json").read_text())
    assert index["statement"]["terms"].startswith("Given by USC SAIL on a signed release form")
    assert f"On {index['statement']['date']} the publisher stated to hold the licence for iemocap" in card
    assert index["statement"]["terms"] in card
    assert "SYNTHETIC" not in card


def test_a_synthetic_dataset_is_called_synthetic_and_needs_no_statement(few: Path, tmp_path: Path) -> None:
    publish(few, str(tmp_path / "there"), tier="gated")
    card = (tmp_path / "there" / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["pretty_name"].startswith("SYNTHETIC data in the layout of IEMOCAP: Inter")
    assert "synthetic" in head["tags"]
    assert "This dataset is **synthetic**" in card
    assert "Tier `gated`" in card
    assert json.loads((tmp_path / "there" / "published.json").read_text())["statement"] is None


def test_another_dataset_or_tier_is_not_overwritten(few: Path, tmp_path: Path) -> None:
    publish(few, str(tmp_path / "there"))
    with pytest.raises(InputError, match="holds this dataset as tier recipe"):
        publish(few, str(tmp_path / "there"), tier="private")
    (tmp_path / "other").mkdir()
    for content in ('{"root": "0000"}', "[]", "broken"):
        (tmp_path / "other" / "dataset.json").write_text(content)
        with pytest.raises(InputError, match="holds another dataset"):
            publish(few, str(tmp_path / "other"), tier="private")
    for place in (few, few / "inside"):
        with pytest.raises(InputError, match="lies in the dataset's own folder"):
            publish(few, str(place), tier="private")


@pytest.mark.parametrize("damage", ["byte", "missing", "manifest"])
def test_a_damaged_dataset_is_not_published(few: Path, tmp_path: Path, damage: str) -> None:
    shard = few / "shards" / "all-000000.tar"
    if damage == "byte":
        data = bytearray(shard.read_bytes())
        data[100_000] ^= 1
        shard.write_bytes(data)
    elif damage == "missing":
        shard.unlink()
    else:
        shutil.copy(few / "video" / "index.parquet", few / "manifest.parquet")
    with pytest.raises(MesmError, match=r"all-000000\.tar is (not uploaded|missing)|manifest\.parquet"):
        publish(few, str(tmp_path / "there"), tier="private")
    assert not (tmp_path / "there" / "dataset.json").exists()


def test_a_copied_folder_is_fetched_and_checked(few: Path, web: Web, tmp_path: Path) -> None:
    shutil.copytree(few, web.folder, dirs_exist_ok=True)
    assert fetch(web.url, tmp_path / "back")[0] == "copy"
    assert not list(verify(tmp_path / "back"))
    shutil.copy(few / "video" / "index.parquet", web.folder / "manifest.parquet")
    with pytest.raises(MesmError, match=r"manifest\.parquet"):
        fetch(web.url, tmp_path / "altered")
    assert not (tmp_path / "altered" / "dataset.json").exists()


def test_an_incomplete_publication_is_not_a_dataset(few: Path, tmp_path: Path) -> None:
    publish(few, str(tmp_path / "there"), tier="private")
    (tmp_path / "there" / "dataset.json").unlink()
    with pytest.raises(InputError, match="publishing is in progress or was interrupted"):
        fetch(str(tmp_path / "there"), tmp_path / "back")
    with pytest.raises(InputError, match=r"there is no dataset\. Give the URL"):
        fetch(str(tmp_path / "nothing"), tmp_path / "back")


def test_a_folder_with_other_content_is_not_changed(few: Path, tmp_path: Path) -> None:
    publish(few, str(tmp_path / "there"), tier="private")
    other = tmp_path / "other"
    (other / "shards").mkdir(parents=True)
    (other / "shards" / "all-000009.tar").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"all-000009\.tar is not part of this dataset"):
        fetch(str(tmp_path / "there"), other)
    with pytest.raises(InputError, match="is the folder of a build"):
        fetch(str(tmp_path / "there"), few)
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(InputError, match="is a file: give a folder"):
            fetch(str(tmp_path / "there"), place)
    with pytest.raises(MesmError, match="Not a directory"):
        publish(few, str(tmp_path / "file" / "inside"))


def test_a_damaged_fetched_file_is_fetched_again(few: Path, tmp_path: Path) -> None:
    publish(few, str(tmp_path / "there"), tier="private")
    fetch(str(tmp_path / "there"), tmp_path / "back")
    (tmp_path / "back" / "shards" / "all-000000.tar").write_bytes(b"x")
    fetch(str(tmp_path / "there"), tmp_path / "back")
    assert not list(verify(tmp_path / "back"))


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a command in a process of its own."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(*arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "from mesm_cli.data import main; main()", *map(str, arguments)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def test_a_killed_publish_never_exposes_an_incomplete_dataset(
    few: Path, store: Store, tmp_path: Path, start: Any
) -> None:
    """Killed in the middle and before the last file; each time the same command resumes."""
    url, running = "s3://bucket/killed", []

    for last in ("killed/shards/all-000000.tar", "killed/dataset.json"):

        def gate(method: str, path: str, last: str = last) -> None:
            if method == "PUT" and path.endswith(last):
                os.kill(running[-1].pid, signal.SIGKILL)
                running[-1].wait()
                raise ConnectionResetError

        store.gate = gate
        running.append(start("publish", few, url, "--tier", "private"))
        assert running[-1].wait() == -signal.SIGKILL
        store.gate = lambda method, path: None
        with pytest.raises(InputError, match=r"has no dataset\.json"):
            fetch(url, tmp_path / "early")
        assert not (tmp_path / "early" / "dataset.json").exists()
    store.asked.clear()
    publish(few, url, tier="private")
    assert store.sent() == ["killed/dataset.json"]
    fetch(url, tmp_path / "back")
    assert not list(verify(tmp_path / "back"))


def test_a_killed_fetch_never_leaves_an_incomplete_dataset(few: Path, web: Web, tmp_path: Path, start: Any) -> None:
    publish(few, str(web.folder), tier="private")
    running: list[subprocess.Popen[bytes]] = []

    def arrived() -> int:
        return sum(part.stat().st_size for part in (tmp_path / "back").glob("shards/.all-000000.tar.*.part"))

    def killed(answer: Answer) -> None:
        """Some of what was asked for is sent; when it has arrived, the reader is killed."""
        before = arrived()
        answer.send(upto=100_000)
        answer.wfile.flush()
        while arrived() == before and running[-1].poll() is None:
            pass
        running[-1].kill()

    web.always = lambda name: killed if name == "shards/all-000000.tar" else None
    for _ in range(2):
        running.append(start("fetch", web.url, tmp_path / "back"))
        assert running[-1].wait() == -signal.SIGKILL
        with pytest.raises(InputError, match=r"holds no dataset\.json"):
            read_dataset_info(tmp_path / "back")
    web.always = lambda name: None
    web.asked.clear()
    had = arrived()
    fetch(web.url, tmp_path / "back")
    assert not list(verify(tmp_path / "back"))
    assert ("shards/all-000000.tar", f"bytes={had}-") in web.asked
    assert not list((tmp_path / "back").rglob("*.part"))


def test_the_commands_report_what_they_did(few: Path, tmp_path: Path, mesm_data: Any) -> None:
    done = mesm_data("publish", few, tmp_path / "there", "--tier", "gated")
    assert done.stdout == f"{tmp_path}/there\n"
    assert "SYNTHETIC iemocap, tier gated" in done.stderr
    assert "it could not be checked who can read this URL" in done.stderr
    done = mesm_data("fetch", tmp_path / "there", tmp_path / "back")
    assert done.stdout == f"{tmp_path}/back\n"
    assert f"next: mesm-data verify {tmp_path}/back" in done.stderr


@pytest.mark.parametrize(
    ("tier", "private", "gated", "message"),
    [
        ("recipe", False, False, None),
        ("gated", False, False, "is public: --tier gated needs a gated or private repository"),
        ("gated", False, "manual", None),
        ("gated", True, False, None),
        ("private", False, "auto", "is public: --tier private needs a private repository"),
        ("private", True, False, None),
    ],
)
def test_media_are_not_uploaded_to_a_public_repository_of_the_hub(
    web: Web, monkeypatch: pytest.MonkeyPatch, tier: str, private: bool, gated: Any, message: str | None
) -> None:
    """The Hub's client is the real one, what answers it is a file with the two fields of the Hub's answer."""
    from huggingface_hub import hf_api

    monkeypatch.setattr(hf_api.constants, "ENDPOINT", web.url)
    place = web.folder / "api" / "datasets" / "lab" / "some"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"id": "lab/some", "private": private, "gated": gated, "tags": [], "siblings": []}))
    if message is None:
        check_access("hf://datasets/lab/some/folder", tier)
        return
    with pytest.raises(InputError, match=message):
        check_access("hf://datasets/lab/some@main", tier)


def test_a_hub_url_must_name_a_repository() -> None:
    assert parse_repository("hf://datasets/lab/some@main/folder") == ("dataset", "lab/some")
    with pytest.raises(InputError, match="expected hf://datasets/OWNER/NAME"):
        parse_repository("hf://lab/some")

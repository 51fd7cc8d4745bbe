"""An invalid publication is refused in one sentence, before any of its files is written."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesm_data.dataset import description
from mesm_data.dataset.dataset_dir import dataset_root
from mesm_data.dataset.description import MAX_INFO_BYTES, parse_dataset_info
from mesm_data.errors import InputError, MesmError
from mesm_data.publishing.contents import read_publication
from mesm_data.publishing.fetch import fetch
from mesm_data.publishing.publish import publish

Said = dict[str, Any]
DIGEST = "0" * 64
FILE = {"size": 1, "samples": 1, "sha256": DIGEST}


def sealed(info: Said) -> Said:
    """With the root that fits."""
    return {**info, "root": dataset_root(info["manifest"]["sha256"], info["shards"])}


@pytest.fixture(scope="module")
def published(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("published")
    publish(dataset, str(place), tier="private")
    return place


@pytest.fixture
def there(published: Path, tmp_path: Path) -> Path:
    """A copy that may be altered, without published.json."""
    shutil.copytree(published, tmp_path / "there", ignore=shutil.ignore_patterns("published.json"))
    return tmp_path / "there"


@pytest.mark.parametrize(
    "name",
    ["../x.tar", "/etc/x.tar", "a/../../x.tar", ".x.tar", "x.tar/", "x.exe", "", "x\n.tar", "x.tar\n", "..", "é.tar",
     "x\0.tar", "a/b.tar", "\\x.tar", ".build/x.tar"],
)  # fmt: skip
@pytest.mark.parametrize("folder", ["shards", "video"])
def test_a_file_name_outside_the_dataset_is_refused(there: Path, tmp_path: Path, folder: str, name: str) -> None:
    info = json.loads((there / "dataset.json").read_text())
    info[folder][name] = FILE
    (there / "dataset.json").write_text(json.dumps(sealed(info)))
    with pytest.raises(InputError, match=rf"dataset\.json is damaged.* {folder}\..*\[key\]: String should match"):
        fetch(str(there), tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: {**info, "format": 1}, "has shard format 1; this version of mesm reads format 2"),
        (lambda info: {**info, "format": "x" * 10**6}, "has shard format"),
        (lambda info: {**info, "root": DIGEST}, "contradicts itself: its root is"),
        (lambda info: {**info, "root": None}, "root: Input should be a valid string"),
        (lambda info: {**info, "shards": {}}, "names no shards"),
        (lambda info: {**info, "shards": []}, "shards: Input should be a valid dictionary"),
        (lambda info: {**info, "manifest": {}}, r"manifest\.rows: Field required"),
        (lambda info: {**info, "manifest": {"rows": True, "sha256": DIGEST}}, r"manifest\.rows: Input should be"),
        (
            lambda info: sealed({**info, "shards": {"a.tar": {**FILE, "size": -1}}}),
            r"shards\.a\.tar\.size: Input should be",
        ),
        (
            lambda info: sealed({**info, "shards": {"a.tar": {**FILE, "size": 2**60}}}),
            r"shards\.a\.tar\.size: Input should",
        ),
        (
            lambda info: sealed({**info, "shards": {"a.tar": {**FILE, "size": 1e3}}}),
            r"shards\.a\.tar\.size: Input should be",
        ),
        (
            lambda info: sealed({**info, "shards": {"a.tar": {**FILE, "sha256": "../x"}}}),
            r"shards\.a\.tar\.sha256: String",
        ),
        (lambda info: sealed({**info, "shards": {"a.tar": {**FILE, "size": 2**49}}}), r"needs 524288\.0 GiB more"),
        (lambda info: [info], "does not describe a dataset"),
    ],
)
def test_inconsistent_or_too_large_publications_are_refused(
    there: Path, tmp_path: Path, change: Callable[[Said], Any], message: str
) -> None:
    (there / "dataset.json").write_text(json.dumps(change(json.loads((there / "dataset.json").read_text()))))
    with pytest.raises(InputError, match=message) as raised:
        fetch(str(there), tmp_path / "back")
    assert len(str(raised.value)) < 1000
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 10**6, b"\xff", b"9" * 10**5, b"null"])
def test_invalid_json_is_refused(there: Path, tmp_path: Path, data: bytes) -> None:
    (there / "dataset.json").write_bytes(data)
    with pytest.raises(InputError):
        fetch(str(there), tmp_path / "back")


def test_too_large_files_are_not_read(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (there / "dataset.json").open("r+b") as file:
        file.truncate(MAX_INFO_BYTES + 1)
    with pytest.raises(InputError, match=f"has more than {MAX_INFO_BYTES} bytes"):
        fetch(str(there), tmp_path / "back")


def test_a_wrong_or_memory_exhausting_manifest_does_not_become_a_dataset(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(there / "manifest.parquet", tmp_path / "kept")
    pq.write_table(pa.table({"key": ["a"] * 10**6}), there / "manifest.parquet")
    with pytest.raises(MesmError, match=r"has 1000000 rows .*, named are 29"):
        fetch(str(there), tmp_path / "back")
    shutil.copy(tmp_path / "kept", there / "manifest.parquet")
    monkeypatch.setattr(description, "MAX_TABLE_BYTES", 1000)
    with pytest.raises(MesmError, match=r"has 29 rows \(\d+ bytes\)"):
        fetch(str(there), tmp_path / "back")
    assert not (tmp_path / "back" / "dataset.json").exists()


def test_two_lists_that_do_not_agree_are_refused(dataset: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    publish(dataset, str(there), tier="private")
    index = json.loads((there / "published.json").read_text())
    shard = "shards/all-000000.tar"
    for change in (
        {"files": {**index["files"], shard: FILE}},
        {"files": {name: file for name, file in index["files"].items() if name != shard}},
        {"files": {name: file for name, file in index["files"].items() if name != "manifest.parquet"}},
        {"files": {**index["files"], "dataset.json": FILE}},
        {"files": {**index["files"], "shards/more.tar": FILE}},
        {"root": DIGEST},
    ):
        (there / "published.json").write_text(json.dumps(index | change))
        with pytest.raises(InputError, match="do not agree"):
            fetch(str(there), tmp_path / "back")
    for change in ({"files": {"../x": FILE}}, {"files": []}, {"tier": "open"}, {"publication": 2}, {"root": "x"}):
        (there / "published.json").write_text(json.dumps(index | change))
        with pytest.raises(InputError, match=r"published\.json|names a file"):
            fetch(str(there), tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_file_with_other_bytes_is_never_put_in_place(there: Path, tmp_path: Path) -> None:
    shard = there / "shards" / "all-000000.tar"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(MesmError, match=r"all-000000\.tar is not the file that the dataset names: sha256"):
        fetch(str(there), tmp_path / "back")
    assert not (tmp_path / "back" / "shards" / "all-000000.tar").exists()
    assert not (tmp_path / "back" / "dataset.json").exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(DIGEST),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=5), some, max_size=3),
    max_leaves=8,
)
TOP = ("format", "publication", "manifest", "shards", "video", "root", "corpus", "synthetic", "files", "tier")


@settings(max_examples=50)
@given(info=st.dictionaries(st.sampled_from(TOP), JSON | st.just(1)) | JSON)
def test_any_json_is_accepted_or_refused_with_a_message(info: Any) -> None:
    data = json.dumps(info).encode()
    for read in (parse_dataset_info, read_publication):
        with suppress(InputError):
            read(data, "there")


def test_the_digest_of_a_publication_is_that_of_its_bytes(dataset: Path, tmp_path: Path) -> None:
    publication = publish(dataset, str(tmp_path / "there"), tier="private")
    for name, file in publication.files.items():
        assert sha256((tmp_path / "there" / name).read_bytes()).hexdigest() == file.sha256

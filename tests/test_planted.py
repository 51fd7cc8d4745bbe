"""Guarantee: files that a stranger planted do no harm: nothing else is read, written, waited for, or executed."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError, MesmError
from mesm_data.integrity.lock_reader import read_lock
from mesm_data.integrity.lock_writer import LOCK_VERSION
from mesm_data.pipeline.output_dir import prepare_output_dir
from mesm_data.pipeline.retry import read_recorded_plan
from mesm_data.pipeline.source_record import load_source_index
from mesm_data.publishing.contents import read_publication
from mesm_data.publishing.fetch import fetch
from mesm_data.splits.groups import load_groups
from mesm_data.storage.cache import Cache
from mesm_data.storage.file_locks import folder_lock
from mesm_data.storage.files import atomic_write, open_for_update, open_regular_file, sha256_file
from mesm_data.storage.json_files import read_json
from mesm_data.storage.remote import download_file
from mesm_data.storage.safe_text import MAX_MESSAGE, printable, printable_message

Command = Callable[..., "subprocess.CompletedProcess[str]"]
DIGEST = "0" * 64
PRECIOUS = b"a thesis\n"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file of the user that nobody may change."""
    path = tmp_path / "thesis.tex"
    path.write_bytes(PRECIOUS)
    return path


# Links and pipes


def plant(kind: str, path: Path, precious: Path) -> None:
    """Put something that is no regular file at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "link":
            path.symlink_to(precious)
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()


KINDS = ["link", "pipe", "device", "folder"]


@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_are_opened_for_writing(tmp_path: Path, precious: Path, kind: str) -> None:
    plant(kind, tmp_path / "file", precious)
    with pytest.raises(InputError, match=r"file cannot be used as a lock \(it is not a regular file\): remove it"):
        open_for_update(tmp_path / "file", "a lock")


def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    """A rename would replace it: `--out /dev/null`, run as root, took the device away."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        refused = pytest.raises(InputError, match=rf"{name} is a device, a pipe or a socket: give the name of a file")
        with refused, atomic_write(tmp_path / name):
            pass
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]
    (tmp_path / "to a file").symlink_to(tmp_path / "file")
    for name in ("new", "to a file", "new"):  # a link is replaced, and nothing is written where it leads
        with atomic_write(tmp_path / name) as file:
            file.write(b"x")
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_regular_files_are_read(tmp_path: Path, precious: Path, kind: str) -> None:
    plant(kind, tmp_path / "file", precious)
    for read in (open_regular_file, sha256_file):
        with pytest.raises(OSError, match="not a regular file"):
            read(tmp_path / "file")
    with pytest.raises(InputError, match="not a regular file"):
        read_json(tmp_path / "file")


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_file_is_never_opened_through_a_link(tmp_path: Path, precious: Path, kind: str) -> None:
    plant(kind, tmp_path / "out" / ".build" / "lock", precious)
    path = tmp_path / "out" / ".build" / "lock"
    with pytest.raises(InputError, match=r"lock \(it is not a regular file\): remove it"), folder_lock(path):
        pass
    assert precious.read_bytes() == PRECIOUS


@pytest.mark.parametrize("kind", KINDS)
def test_a_download_is_never_written_through_a_link(tmp_path: Path, precious: Path, kind: str) -> None:
    (tmp_path / "there").write_bytes(b"data")
    digest = sha256(b"data").hexdigest()
    part = tmp_path / "out" / f".shard.tar.{digest[:12]}.part"
    plant(kind, part, precious)
    with pytest.raises(InputError, match=r"a partial download \(it is not a regular file\): remove it"):
        download_file(str(tmp_path / "there"), tmp_path / "out" / "shard.tar", size=4, sha256=digest)
    assert precious.read_bytes() == PRECIOUS
    part.rmdir() if kind == "folder" else part.unlink()
    plant(kind, tmp_path / "out" / "shard.tar", precious)
    if kind != "folder":  # what stands where the file belongs is replaced, not what it points to
        download_file(str(tmp_path / "there"), tmp_path / "out" / "shard.tar", size=4, sha256=digest)
        assert (tmp_path / "out" / "shard.tar").read_bytes() == b"data"
        assert not (tmp_path / "out" / "shard.tar").is_symlink()
    assert precious.read_bytes() == PRECIOUS


@pytest.mark.parametrize("kind", KINDS)
def test_the_cache_is_never_written_through_a_link(tmp_path: Path, precious: Path, kind: str) -> None:
    cache = Cache(tmp_path / "cache", 1000)
    plant(kind, cache.dataset_folder(DIGEST) / "locks" / "a.tar", precious)
    with pytest.raises(MesmError, match="cannot be used as a lock"), cache.write_lock(DIGEST, "a.tar", wait=True):
        pass
    plant(kind, tmp_path / "cache" / ".lock", precious)
    with (
        cache.write_lock(DIGEST, "b.tar", wait=True) as writer,
        pytest.raises(MesmError, match="cannot be used as a lock"),
    ):
        cache.reserve(writer or 0, 1, force=False)
    assert precious.read_bytes() == PRECIOUS


def test_a_link_in_place_of_a_cached_shard_is_removed(tmp_path: Path, precious: Path) -> None:
    shard = tmp_path / "cache" / DIGEST / "shards" / "a.tar"
    plant("link", shard, precious)
    assert Cache(tmp_path / "cache", 1000).pin(shard, len(PRECIOUS)) is None
    assert not shard.is_symlink()
    assert precious.read_bytes() == PRECIOUS


def test_a_pipe_in_a_published_folder_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "published.json")
    with pytest.raises(MesmError, match="not a regular file"):
        fetch(str(tmp_path), tmp_path / "out")


# recipe.lock


def lock(**changes: Any) -> dict[str, Any]:
    """A lock of no samples; `changes` are to its recipe."""
    recipe = {**asdict(Recipe(corpus="iemocap")), "detector": DIGEST, **changes}
    return {"lock": LOCK_VERSION, "recipe": recipe, "toolchain": {}, "root": DIGEST, "failed": [], "samples": []}


@pytest.mark.parametrize("name", ["../secret.yaml", "/etc/passwd", "secret.yaml", ".", "mine", "session-5/../secret"])
def test_a_lock_cannot_name_a_path_of_this_machine(tmp_path: Path, mesm_data: Command, corpus: Path, name: str) -> None:
    """Its split is looked up among the published ones; the file of that name is neither opened nor quoted."""
    secret = tmp_path / "secret.yaml"
    secret.write_text("token: swordfish\n")
    (tmp_path / "out.lock").write_text(json.dumps(lock(split={"name": name, "digest": DIGEST})))
    read = read_lock(tmp_path / "out.lock")
    with pytest.raises(InputError, match="not published: give its lists with --split"):
        read.split_name(scan_corpus("iemocap", corpus))
    words = ("build", "iemocap", "--source", corpus, "--out", tmp_path / "out", "--lock", "out.lock")
    done = mesm_data(*words, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "swordfish" not in done.stderr
    assert "not published" in done.stderr


def test_a_published_split_of_a_lock_is_used(tmp_path: Path, corpus: Path) -> None:
    for split, name in ((None, None), ({"name": "session-5", "digest": DIGEST}, "session-5")):
        (tmp_path / "recipe.lock").write_text(json.dumps(lock(split=split)))
        assert read_lock(tmp_path / "recipe.lock").split_name(scan_corpus("iemocap", corpus)) == name


@pytest.mark.parametrize(
    "split",
    [{}, {"name": "session-5"}, {"digest": DIGEST}, {"name": 5, "digest": DIGEST}, {"name": "session-5", "digest": "x"},
     {"name": "session-5", "digest": DIGEST, "path": "/etc/passwd"}, [], "session-5"],
)  # fmt: skip
def test_a_split_of_the_wrong_shape_is_named(tmp_path: Path, split: Any) -> None:
    (tmp_path / "recipe.lock").write_text(json.dumps(lock(split=split)))
    with pytest.raises(InputError, match=r"recipe\.lock is damaged.*: recipe\.split[.:]"):
        read_lock(tmp_path / "recipe.lock")


@pytest.mark.parametrize("field", ["lock", "recipe"])
def test_a_lock_is_not_quoted_at_length(tmp_path: Path, field: str) -> None:
    content = {**lock(), field: "x" * 10**6} if field == "lock" else lock(corpus="x" * 10**6)
    (tmp_path / "recipe.lock").write_text(json.dumps(content))
    with pytest.raises(InputError) as refused:
        read_lock(tmp_path / "recipe.lock")
    assert len(str(refused.value)) < 500 + len(str(tmp_path))


# published.json


@pytest.mark.parametrize("statement", [{}, {"date": "x"}, {"corpus": 1, "terms": "x", "date": "x"}, [], "x", 1])
def test_a_statement_of_the_wrong_shape_is_refused(statement: Any) -> None:
    content = {
        "publication": 1, "tier": "private", "corpus": "iemocap", "synthetic": False, "root": DIGEST, "date": "x",
        "files": {},
    }  # fmt: skip
    read_publication(json.dumps({**content, "statement": None}).encode(), "published.json")
    with pytest.raises(InputError, match=r"published\.json is damaged"):
        read_publication(json.dumps({**content, "statement": statement}).encode(), "published.json")


# What a build left behind


@pytest.mark.parametrize(
    "data", ["[]", "null", "1", '"x"', "{}", '{"recipe": 1}', '{"recipe": {}, "source": [1]}', "{"]
)
def test_files_of_an_interrupted_build_of_the_wrong_shape_are_named(tmp_path: Path, data: str) -> None:
    for name in ("recipe.json", "source.json", "groups.json"):
        (tmp_path / ".build").mkdir(exist_ok=True)
        (tmp_path / ".build" / name).write_text(data)
    with pytest.raises(InputError, match=r"recipe\.json is"):
        prepare_output_dir(tmp_path, {}, overwrite=False)
    with pytest.raises(InputError, match=r"recipe\.json is"):
        read_recorded_plan(tmp_path)
    with pytest.raises(InputError, match=r"source\.json is"):
        load_source_index(tmp_path)
    with pytest.raises(InputError, match=r"groups\.json is"):
        load_groups(tmp_path, {"name": "session-5", "digest": DIGEST})


# Terminals


@given(st.text())
def test_no_terminal_escape_is_printed(text: str) -> None:
    output = printable(text)
    output.encode()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", output)
    assert all(character in output for character in text if character.isalnum())


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_on_a_terminal_is_the_same_json(value: Any) -> None:
    assert json.loads(printable(json.dumps(value, ensure_ascii=False, indent=2))) == value


def test_messages_have_a_maximum_length() -> None:
    assert len(printable_message("x" * 10**7)) < MAX_MESSAGE + 100
    assert "9996000 characters more" in printable_message("x" * 10**7)


def test_every_command_prints_through_the_console() -> None:
    """A command that calls typer.echo or print prints what a stranger wrote as it is."""
    folder = Path(sys.modules["mesm_data"].__path__[0]).parent / "cli" / "mesm_cli"
    printing = [path.name for path in folder.glob("*.py") if re.search(r"typer\.echo\(|\bprint\(", path.read_text())]
    assert printing == ["console.py"]

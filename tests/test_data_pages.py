"""The commands of the pages on building, comparing and splitting data work as they stand there."""

import shutil
from pathlib import Path

import pytest
from documented_elsewhere import commands_to_run
from page_commands import put, run_page_command
from stub_yunet import model

from mesm_data.dataset.reader import Dataset

SMALL = ("--limit", "2", "--workers", "1", "--no-video")


@pytest.fixture
def folder(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which the corpus lies where the pages have it."""
    put(tmp_path, {"corpora/IEMOCAP_full_release": corpus, "mnt/IEMOCAP": corpus})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_on_building(folder: Path) -> None:
    for command in commands_to_run("docs/build.md"):
        run_page_command(command, *(SMALL if command.words[1] == "build" else ()))
    assert len(Dataset(folder / "data/iemocap-full")) == 2


def test_the_page_on_long_builds(folder: Path) -> None:
    for command in commands_to_run("docs/scaling.md"):
        run_page_command(command, *(SMALL if command.words[1] == "build" else ()))
    assert len(Dataset(folder / "data/iemocap")) == 2


def test_the_page_on_the_identity_of_datasets(folder: Path) -> None:
    """Lab A sends its recipe.lock to lab B."""
    first, *others = commands_to_run("docs/proof.md")
    run_page_command(first, *SMALL)
    shutil.copy("data/iemocap/recipe.lock", ".")
    for command in others:
        run_page_command(command, *(SMALL[2:] if command.words[1] == "build" else ()))
    roots = {Dataset(folder / "data" / name).info["root"] for name in ("b", "iemocap")}
    assert len(roots) == 1


def test_the_page_on_the_format(folder: Path) -> None:
    (folder / "face_detection_yunet_2023mar.onnx").write_bytes(model())
    for command in commands_to_run("docs/format.md"):
        run_page_command(command, *SMALL)
    assert len(Dataset(folder / "data/yunet")) == 2


def test_the_page_on_splits(folder: Path) -> None:
    for command in commands_to_run("docs/splits.md"):
        assert "iemocap session-5" in run_page_command(command).stdout

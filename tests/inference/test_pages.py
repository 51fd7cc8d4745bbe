"""Commands and Python examples of docs/predict.md, export.md and tutorial.md work as they stand there."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from documented import REPOSITORY, python_examples
from documented_elsewhere import commands_to_run
from onnx_check import check_onnx
from page_commands import run_page_command

import mesm_train
from mesm_data.dataset.reader import Dataset
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.media.wav import encode_wav


@pytest.fixture(scope="module")
def workplace(
    tmp_path_factory: pytest.TempPathFactory, fe2e_run: Path, dialog: Path, corpus: Path, dataset: Path
) -> Path:
    """A folder with the files that the pages name: four seconds of a dialog."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "runs").mkdir()
    (folder / "runs/demo-fe2e").symlink_to(fe2e_run)
    (folder / "examples").symlink_to(REPOSITORY / "examples")
    command = [ffmpeg_binary(), "-v", "error", "-i", dialog, "-t", "4", "-c", "copy"]
    subprocess.run([*command, folder / "clip.mkv"], check=True)
    (folder / "clips").mkdir()
    for name in ("clip.mp4", "talk.mp4", "clips/one.mp4"):
        (folder / name).symlink_to(folder / "clip.mkv")
    wav = corpus / "Session1/dialog/wav" / f"{dialog.stem}.wav"
    subprocess.run([ffmpeg_binary(), "-v", "error", "-i", wav, "-t", "2", folder / "sound.wav"], check=True)
    (folder / "talk.srt").write_text(
        "1\n00:00:00,000 --> 00:00:02,000\nso\n\n2\n00:00:02,000 --> 00:00:04,000\nangry\n"
    )
    sample = Dataset(dataset)[Dataset(dataset).keys[0]]
    np.save(folder / "faces.npy", sample.faces)
    return folder


def test_the_page_on_predict(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    lines = commands_to_run("docs/predict.md")
    assert len(lines) >= 5
    for command in lines:
        run_page_command(command)
    for name in ("talk.png", "talk.csv", "predictions.parquet"):
        assert Path(name).stat().st_size > 100
    for code in python_examples("docs/predict.md"):
        exec(code, {"paths": ["clip.mp4"]})


def test_the_page_on_export(workplace: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And onnxruntime computes the logits of FE2E."""
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(workplace)
    sample = Dataset(dataset)[Dataset(dataset).keys[0]]
    Path("sound.wav").write_bytes(encode_wav(sample.samples))
    for command in commands_to_run("docs/export.md"):
        run_page_command(command)
    assert {path.name for path in Path("demo-onnx").iterdir()} == {"model.onnx", "model.json", "text"}
    check_onnx(mesm_train.load("runs/demo-fe2e", device="cpu"), dataset, Path("demo-onnx"), 1e-4)
    for code in python_examples("docs/export.md"):
        exec(code, {})


def test_the_tutorial(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small run. The app and the export to ONNX are those of other tests."""
    monkeypatch.chdir(workplace)
    Path("demo").mkdir()
    Path("demo/fe2e").symlink_to(Path("runs/demo-fe2e").resolve())
    Path("demo/clip.mp4").symlink_to(Path("clip.mkv").resolve())
    quick_start = {command.text for command in commands_to_run("docs/quickstart.md")}  # the same corpus and training
    here = [command for command in commands_to_run("docs/tutorial.md") if command.text not in quick_start]
    assert len(here) == 6
    for command in here:
        run_page_command(command)
    assert Path("demo/why.html").stat().st_size > 1000
    for code in python_examples("docs/tutorial.md"):
        exec(code, {})

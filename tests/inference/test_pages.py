"""Commands and Python examples of docs/predict.md, export.md, reports.md and tutorial.md work as they stand there."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mesm_cli.data import app as data_app
from mesm_cli.train import app
from onnx_check import check_onnx
from typer.testing import CliRunner

import mesm_train
from mesm_data.dataset.reader import Dataset
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.media.wav import encode_wav

REPOSITORY = Path(__file__).parents[2]


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


def commands(page: str) -> list[str]:
    """The commands of a page: what is indented by four spaces."""
    return re.findall(r"^    ((?:mesm-train|python) .*)$", (REPOSITORY / "docs" / page).read_text(), re.MULTILINE)


def examples(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / page).read_text(), re.DOTALL)


def run(line: str) -> None:
    name, *arguments = shlex.split(line, comments=True)
    if name in ("mesm-train", "mesm-data"):
        done = CliRunner().invoke(app if name == "mesm-train" else data_app, arguments)
        assert done.exit_code == 0, f"{line}: {done.exception} {done.output}"
    else:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def test_the_page_on_predict(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    lines = commands("predict.md")
    assert len(lines) >= 5
    for line in lines:
        run(line)
    for name in ("talk.png", "talk.csv", "predictions.parquet"):
        assert Path(name).stat().st_size > 100
    for code in examples("predict.md"):
        exec(code, {"paths": ["clip.mp4"]})


def test_the_page_on_export(workplace: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And onnxruntime computes the logits of FE2E."""
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(workplace)
    sample = Dataset(dataset)[Dataset(dataset).keys[0]]
    Path("sound.wav").write_bytes(encode_wav(sample.samples))
    for line in commands("export.md"):
        run(line)
    assert {path.name for path in Path("demo-onnx").iterdir()} == {"model.onnx", "model.json", "text"}
    check_onnx(mesm_train.load("runs/demo-fe2e", device="cpu"), dataset, Path("demo-onnx"), 1e-4)
    for code in examples("export.md"):
        exec(code, {})


def test_the_page_on_reports(workplace: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On small runs and a small dataset; `app` and `browse` are opened in a browser by other tests."""
    monkeypatch.chdir(workplace)
    shutil.copytree("runs/demo-fe2e", "runs/demo-mesm")
    page = (REPOSITORY / "docs/reports.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    lines = [line for line in lines if not line.startswith(("mesm-train app ", "mesm-data browse ", "pip "))]
    assert len(lines) >= 9
    first, second, *_ = Dataset(dataset).keys
    places = {"Ses01F_impro01_F000": first, "Ses01F_impro01_M001": second, "/data/iemocap/": ""}
    for line in lines:
        here = re.sub("|".join(places), lambda found: places[found[0]], line)
        run(re.sub(r"/data/iemocap(-20..)?(?= |$)", str(dataset), here))
    for name in ("comparison.html", "clip.html", "iemocap.html", "croissant.json"):
        assert Path(name).stat().st_size > 1000


def test_the_tutorial(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small run. The corpus, the model and the app are those of other tests, ONNX that of the page on export."""
    monkeypatch.chdir(workplace)
    Path("demo").mkdir()
    Path("demo/fe2e").symlink_to(Path("runs/demo-fe2e").resolve())
    Path("demo/clip.mp4").symlink_to(Path("clip.mkv").resolve())
    page = (REPOSITORY / "docs/tutorial.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    elsewhere = ("mesm-data ", "tar ", "mv ", "mesm-train run ", "mesm-train app ")
    here = [line for line in lines if not line.startswith(elsewhere) and "--to onnx" not in line]
    assert len(here) == 6
    for line in here:
        run(line)
    assert Path("demo/why.html").stat().st_size > 1000
    for code in examples("tutorial.md"):
        exec(code, {})

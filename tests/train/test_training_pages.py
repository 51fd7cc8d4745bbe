"""The commands of README.md and of the pages on training work as they stand there, with small networks."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_encoders
from documented import Command, python_examples
from documented_elsewhere import commands_to_run
from page_commands import put, run_page_command
from session_dataset import write_sessions

import mesm_data
from mesm_data.dataset.reader import Dataset
from mesm_data.features.feature_set import set_names
from mesm_data.storage.json_files import read_json

Once = Callable[[str, Callable[[Path], None]], Path]

SIZES = (
    "optim.epochs=1", "optim.batch=16", "model.channels=[4,8,8]", "model.stem_blocks=0", "model.hidden=16",
    "model.dim=8", "model.layers=1", "model.heads=2", "model.feedforward=16", "report.media=false",
)  # fmt: skip
TEXT = (
    "text.encoder=tiny", "text.tiny.vocabulary=60", "text.tiny.embedding=8", "text.tiny.width=8", "text.tiny.layers=1",
    "text.tiny.heads=2", "text.tiny.feedforward=8",
)  # fmt: skip
TEXT_ALONE = "model.modalities=[t]"  # nothing is convolved


@pytest.fixture(scope="session")
def sessions(once: Once, dataset: Path) -> Path:
    """A dataset of five sessions."""
    return once("sessions", lambda path: write_sessions(dataset, path))


@pytest.fixture
def folder(tmp_path: Path, sessions: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with that dataset where the pages have theirs."""
    put(tmp_path, {"data/iemocap": sessions, "demo/iemocap-shards": sessions})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sets(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def run_small(command: Command, *settings: str) -> str:
    """Run a command; training with small networks for one epoch on one fold, comparing with few resamples."""
    options = {
        "run": sets(*SIZES, *TEXT, *settings),
        "cv": ["--folds", "session-5", "--seeds", "1", "--jobs", "1", *sets(*SIZES, *TEXT, *settings)],
        "tune": ["--trials", "1", *sets(*SIZES, *TEXT, *settings)],
        "compare": ["--resamples", "100"],
        "build": ["--out", "built", "--limit", "2", "--workers", "1", "--no-video"],
        "features": ["--workers", "1"],
    }
    lists_recipes = len(command.words) == 2
    return run_page_command(command, *([] if lists_recipes else options.get(command.words[1], []))).stdout


def test_the_readme(folder: Path, corpus: Path, dataset: Path) -> None:
    put(folder, {"corpora/IEMOCAP_full_release": corpus})
    with tarfile.open(min((dataset / "video").glob("*.tar"))) as clips:
        (folder / "clip.mp4").write_bytes(clips.extractfile(clips.next()).read())  # type: ignore[union-attr,arg-type]
    for command in commands_to_run("README.md"):
        run_small(command)
    assert len(Dataset("built")) == 2
    assert (folder / "model" / "README.md").is_file()
    for code in python_examples("README.md"):
        exec(code.replace('"/data', '"data'), {})


def test_the_quick_start(folder: Path, corpus: Path) -> None:
    put(folder, {"demo/iemocap": corpus})
    for command in commands_to_run("docs/quickstart.md"):
        run_small(command, TEXT_ALONE)
    assert (folder / "demo/fe2e/report.html").is_file()


def test_the_page_on_training(folder: Path) -> None:
    for command in commands_to_run("docs/training.md"):
        run_small(command, TEXT_ALONE)
    assert read_json(folder / "runs/mesm-s5/results.json")["scores"]["test"]["n"] == 12


def test_the_page_on_protocols(folder: Path) -> None:
    """The page shows the file of the search."""
    pytest.importorskip("optuna")
    page = (Path(__file__).parents[2] / "docs/protocols.md").read_text()
    (folder / "space.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    for command in commands_to_run("docs/protocols.md"):
        run_small(command, TEXT_ALONE)
    assert (folder / "tables/fe2e-mesm/table.csv").is_file()
    assert (folder / "runs/iemocap-fe2e-tune/best.yaml").is_file()


@pytest.fixture(scope="module")
def with_features(sessions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of the page on features have run."""
    pytest.importorskip("opensmile")
    folder = tmp_path_factory.mktemp("features")
    (folder / "data").mkdir()
    shutil.copytree(sessions, folder / "data/iemocap")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in commands_to_run("docs/features.md"):
            run_small(command)
    return folder


def test_the_page_on_features(with_features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(with_features)
    assert {"egemaps", "glove", "hog"} <= set(set_names(Path("data/iemocap")))
    for code in python_examples("docs/features.md"):
        names: dict[str, object] = {}
        exec(code, names)
        assert names["rows"].values.shape[1] == 132  # type: ignore[attr-defined]


def test_the_page_on_two_phase_systems(with_features: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiny random encoders, which take crops of 48 pixels."""
    monkeypatch.chdir(with_features)
    data = with_features / "data/iemocap"
    texts = [sample.text for sample in Dataset(data)]
    speech = tiny_encoders.speech(with_features / "wavlm")
    put(with_features, {"corpora/IEMOCAP": corpus, "models/wavlm-base": speech, "data/iemocap-224": data})
    text = tiny_encoders.roberta(with_features / "roberta", texts)
    image = tiny_encoders.image(with_features / "vit")
    for command in commands_to_run("docs/two-phase.md"):
        kinds = {"iemocap-wavlm-roberta": [f"text.encoder={text}"]}
        kinds["iemocap-wavlm-roberta-vit"] = [f"text.encoder={text}", f"faces.encoder={image}"]
        run_small(command, *kinds.get(command.words[2] if len(command.words) > 2 else "", []))
    assert Dataset("built").info["recipe"]["face_size"] == 224


def test_the_page_on_experiments(with_features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(with_features)
    put(with_features, {"demo/iemocap-shards": with_features / "data/iemocap"})
    shutil.rmtree("runs", ignore_errors=True)  # of other pages
    for command in commands_to_run("docs/experiments.md"):
        two_phase = any(name in command.text for name in ("lf-", "emo-embs", "mult"))
        run_small(command, *([] if two_phase else [TEXT_ALONE]))
    assert len(list(Path("runs").iterdir())) == 8


def test_the_page_on_the_python_api(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = mesm_data.open_dataset("data/iemocap").rows[min(Dataset("data/iemocap").keys)]["labels"]
    first, loop = python_examples("docs/api.md")
    exec(first.replace('"/data', '"data'), {"labels": labels})
    names: dict[str, object] = {}
    exec(loop.replace('"/data', '"data'), names)
    assert len(names["batch"].keys) > 0  # type: ignore[attr-defined]

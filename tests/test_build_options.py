"""The options of a build for faces and sound: what they name is what is built, recorded, checked and rebuilt."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mesm_cli.data import app
from stub_yunet import model
from typer.testing import CliRunner

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.dataset.summary import inspect
from mesm_data.errors import InputError, MesmError
from mesm_data.integrity.content_check import check_content
from mesm_data.integrity.lock_comparison import compare_build
from mesm_data.integrity.lock_reader import read_lock
from mesm_data.integrity.verify import verify
from mesm_data.pipeline.build import build_dataset
from mesm_data.pipeline.retry import retry_dataset
from mesm_train.config.model_settings import ModelSettings
from mesm_train.config.settings import LoaderConfig, RunConfig
from mesm_train.data.loader import Loader
from mesm_train.training.selection import check_media

ONLY = "Ses01*_[FM]000"
OPTIONS = {"face_size": 96, "frame_interval": "0.25", "min_face_size": 60, "sample_rate": 44_100}
Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="module")
def other(once: Once, corpus: Path) -> Path:
    """Some utterances of the corpus, built with other options."""
    recipe = Recipe(corpus="iemocap", only=ONLY, **OPTIONS)  # type: ignore[arg-type]
    return once("other", lambda path: build_dataset(scan_corpus("iemocap", corpus), path, recipe, workers=1) and None)


def test_faces_and_sound_follow_the_options(other: Path, dataset: Path) -> None:
    built, usual = Dataset(other, check=True), Dataset(dataset)
    assert built.keys
    assert {name: built.info["recipe"][name] for name in OPTIONS} == OPTIONS
    for key in built.keys:
        ours, theirs = built[key], usual[key]
        assert ours.faces.shape[1:] == (96, 96, 3)
        assert ours.record["faces"]["times"][::2] == theirs.record["faces"]["times"]
        assert abs(len(ours.samples) / 44_100 - len(theirs.samples) / 16_000) < 1e-3
        played, rate = soundfile.read(io.BytesIO(built.member(key, "wav")), dtype="int16")
        assert (rate, ours.sample_rate) == (44_100, 44_100)
        assert np.array_equal(played, ours.samples)
        assert ours.record["audio"]["sample_rate"] == 16_000
    assert built.info["features"]["faces.npy"]["shape"] == [None, 96, 96, 3]


def test_verify_and_inspect_use_the_options_of_the_dataset(other: Path, dataset: Path) -> None:
    assert list(verify(other)) == []
    assert list(check_content(other)) == []
    rows = {key: row for key, row in Dataset(dataset).rows.items() if key in Dataset(other).keys}
    seconds = sum(row["n_samples"] for row in rows.values()) / 16_000
    assert abs(inspect(other)["seconds"]["total"] - seconds) <= 0.1


def test_a_lock_rebuilds_a_dataset_with_other_options(tmp_path: Path, corpus: Path, other: Path) -> None:
    lock = read_lock(other / "recipe.lock")
    info = build_dataset(scan_corpus("iemocap", corpus), tmp_path / "out", lock.recipe, workers=1, lock=lock)
    assert {verdict for _, verdict, _ in compare_build(tmp_path / "out", lock)} == {"identical"}
    assert info["root"] == lock.header["root"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--face-size", "48"), ("--frame-interval", "0.5"), ("--min-face-size", "40"), ("--sample-rate", "16000"),
        ("--face-detector", "mtcnn"), ("--face-model", "m.onnx"),
    ],
)  # fmt: skip
def test_with_a_lock_options_of_the_command_line_are_refused(
    tmp_path: Path, corpus: Path, other: Path, option: str, value: str
) -> None:
    command = ["build", "iemocap", "--source", corpus, "--out", tmp_path / "out", "--lock", other / "recipe.lock"]
    done = CliRunner().invoke(app, [*map(str, command), option, value])
    assert isinstance(done.exception, InputError)
    assert f"{option} cannot be given with --lock" in str(done.exception)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--face-size", "15", "face_size is 15, expected 16 to 1024 pixels"),
        ("--face-size", "1025", "face_size is 1025, expected"),
        ("--min-face-size", "11", "min_face_size is 11, expected 12 to 4096 pixels"),
        ("--sample-rate", "7999", "sample_rate is 7999, expected 8000 to 48000 Hz"),
        ("--frame-interval", "0.001", r"frame_interval is '0\.001', expected 0\.01 to 3600 s"),
        ("--frame-interval", "-1", "frame_interval is '-1', expected"),
        ("--frame-interval", "0.3333333333", "with up to 9 decimals"),
        ("--frame-interval", "1/2", "'1/2' is not a number of seconds"),
        ("--face-detector", "yunet", "needs its model file: give it with --face-model"),
        ("--face-model", "m.onnx", "--face-model goes with --face-detector yunet"),
    ],
)
def test_options_out_of_bounds_are_refused_before_any_work(
    tmp_path: Path, corpus: Path, option: str, value: str, sentence: str
) -> None:
    command = ["build", "iemocap", "--source", str(corpus), "--out", str(tmp_path / "out"), option, value]
    done = CliRunner().invoke(app, command)
    with pytest.raises(InputError, match=sentence):
        raise done.exception or AssertionError(done.output)
    assert not (tmp_path / "out").exists()


def check_modalities(modalities: tuple[str, ...], dataset: Dataset) -> None:
    config = RunConfig(name="small", labels="six", split="session-5", model=ModelSettings(modalities=modalities))
    check_media(config, dataset)


def test_a_model_refuses_face_sizes_and_sample_rates_that_it_does_not_support(other: Path, dataset: Path) -> None:
    for modalities in (("t", "v", "a"), ("v",), ("a",)):
        check_modalities(modalities, Dataset(dataset))
    with pytest.raises(InputError, match="faces of 96 pixels, the visual stack takes 48"):
        check_modalities(("v",), Dataset(other))
    with pytest.raises(InputError, match="sound at 44100 Hz, the acoustic stack takes 16000 Hz"):
        check_modalities(("t", "a"), Dataset(other))
    built = Dataset(other)
    check_modalities(("t",), built)
    loader = Loader(built, {key: np.zeros(1, np.float32) for key in built.keys}, None, 10, LoaderConfig())
    assert loader.batch(built.keys).faces.shape[1:] == (96, 96, 3)


def test_a_detector_with_a_model_file_is_recorded_by_digest_and_version(
    tmp_path: Path, corpus: Path, dataset: Path
) -> None:
    """The recipe records digest and version, verify prints them; a lock needs no model file, retry does."""
    onnx, out = tmp_path / "stub.onnx", tmp_path / "out"
    onnx.write_bytes(model())
    command = ["build", "iemocap", "--source", corpus, "--out", out, "--only", ONLY, "--no-video", "--workers", "1"]
    options = ["--face-detector", "yunet", "--face-model", onnx]
    done = CliRunner().invoke(app, [*map(str, (*command, *options))])
    assert done.exception is None, done.output
    recipe = Dataset(out).info["recipe"]
    assert (recipe["face_detector"], len(recipe["face_model"])) == ("yunet", 64)
    assert str(tmp_path) not in (out / "dataset.json").read_text() + (out / "recipe.lock").read_text()
    detected = [seen for sample in Dataset(out) for seen in sample.record["faces"]["detected"]]
    assert any(detected)  # the stub takes what is bright for faces
    note = "results depend on the machine: a build on another machine may be only equivalent, not identical"
    for path, expected in ((out, True), (dataset, False)):
        done = CliRunner().invoke(app, ["verify", str(path)])
        assert (note in done.output) == expected
    lock = read_lock(out / "recipe.lock")
    info = build_dataset(scan_corpus("iemocap", corpus), tmp_path / "again", lock.recipe, workers=1, lock=lock)
    assert info["root"] == lock.header["root"]
    assert list(check_content(tmp_path / "again")) == []
    with pytest.raises(InputError, match="needs its model file"):
        retry_dataset(scan_corpus("iemocap", corpus), out)
    other = tmp_path / "other.onnx"
    other.write_bytes(model() + b"\x08\x07")
    with pytest.raises(MesmError, match=r"face_model is .* in the recipe and .* here"):
        retry_dataset(scan_corpus("iemocap", corpus), out, face_model=other)

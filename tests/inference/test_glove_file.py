"""A two-phase system whose word vectors come from the user's text file predicts clips with that file, and no other."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from inference_runs import train
from mesm_cli.train import app
from typer.testing import CliRunner

import mesm_train
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError
from mesm_data.features import writer
from mesm_data.features.extractors.glove import GloVe, split_words
from mesm_data.schema.recordings import Word

Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="module")
def run(once: Once, dataset: Path, settings_file: Path) -> Path:
    """An LF-LSTM of the text alone; vectors.txt lies beside it."""

    def make(path: Path) -> None:
        data, random = path.with_name("glove-file-data"), np.random.default_rng(0)
        shutil.copytree(dataset, data, ignore=shutil.ignore_patterns("video"))
        opened = Dataset(data)
        words = sorted({word.lower() for key in opened.keys for word in split_words(opened[key].text)})
        lines = [f"{word} {' '.join(f'{x:.3f}' for x in random.normal(size=8))}" for word in words]
        vectors = path.with_name("vectors.txt")
        vectors.write_text("\n".join(lines) + "\n")
        writer.write_features(opened, GloVe(file=str(vectors)), "glove")
        small = ("model.modalities=[t]", "model.two_phase.lf_lstm={hidden: [8, 8, 8]}")
        train(settings_file, path, "lf-lstm", f"data={data}", *small)

    return once("glove-file-run", make)


def test_the_file_of_the_training_data_gives_the_logits_that_the_run_recorded(
    run: Path, dataset: Path, dialog: Path, tmp_path: Path
) -> None:
    """Under another name; the words of a clip need not be those of the dataset."""
    vectors = tmp_path / "renamed.txt"
    shutil.copyfile(run.with_name("vectors.txt"), vectors)
    model = mesm_train.load(run, device="cpu", glove=vectors)
    rows, opened = pq.read_table(run / "predictions-test.parquet").to_pylist(), Dataset(dataset)
    for row in rows[:4]:
        words = [Word(word=word["w"], start=word["t0"], end=word["t1"]) for word in opened[row["key"]].record["words"]]
        answer = model.predict(dialog, words=words, text=opened[row["key"]].text)
        assert answer.logits == pytest.approx({name: row[f"logit_{name}"] for name in answer.logits}, abs=1e-5)
    assert model.predict(dialog, text="an unheard-of word").text
    predicted = CliRunner().invoke(app, ["predict", str(run), str(dialog), "--text", "no", "--glove", str(vectors)])
    assert predicted.exit_code == 0, predicted.exception


def test_without_the_file_and_with_another_one_the_model_is_refused(run: Path, fe2e_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the text file vectors\.txt \(sha256 .*: give that file with --glove"):
        mesm_train.load(run)
    (tmp_path / "other.txt").write_text("a 1 2 3 4 5 6 7 8\n")
    with pytest.raises(InputError, match=r"other\.txt .* is another file: the feature set 'glove' is of the text file"):
        mesm_train.load(run, glove=tmp_path / "other.txt")
    with pytest.raises(InputError, match=r"missing\.txt cannot be read"):
        mesm_train.load(run, glove=tmp_path / "missing.txt")
    with pytest.raises(InputError, match="the model reads no word vectors of a text file"):
        mesm_train.load(fe2e_run, glove=tmp_path / "other.txt")

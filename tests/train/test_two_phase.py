"""Two-phase systems through the training loop: each learns from features, and what does not fit is refused by name."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from rank_workers import journal, ranks, trained

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError
from mesm_data.features import writer
from mesm_data.features.extractors.glove import EMOTIONS, GloVe, split_words
from mesm_data.features.extractors.hog import HOG
from mesm_data.features.extractors.table import Table
from mesm_data.features.feature_set import open_set
from mesm_train.config.recipe_files import load_recipe, recipes
from mesm_train.config.settings import RunConfig
from mesm_train.config.two_phase_settings import TWO_PHASE
from mesm_train.inference.load import load_run
from mesm_train.models.baselines.make import make_two_phase
from mesm_train.models.baselines.two_phase import TwoPhaseModel
from mesm_train.runs.evaluate import evaluate
from mesm_train.runs.run import start_run
from mesm_train.training.loop import train
from mesm_train.training.progress import NullLogger
from mesm_train.training.selection import select_data
from mesm_train.training.setup import prepare_run

SMALL = """
name: small
labels: four
model:
  kind: lf-lstm
  two_phase:
    features: {a: sound}
    lf_lstm: {hidden: [16, 16, 16]}
    lf_transformer: {heads: [2, 4, 1], feedforward: 32, layers: 1}
    emo_embs: {words: [angry, happy, neutral, sad], hidden: [16, 16], layers: 1}
    mult: {dim: 8, heads: 2, layers: 1}
optim: {lr: 1e-2, batch: 8, epochs: 15, clip_norm: 1.0, patience: 0}
device: cpu
"""


@pytest.fixture(scope="module")
def features(dataset: Path, once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The synthetic dataset with three feature sets: vectors of a file, HOG, and spectra of the sound."""

    def make(path: Path) -> None:
        shutil.copytree(dataset, path / "data", ignore=shutil.ignore_patterns("video"))
        data, random = Dataset(path / "data"), np.random.default_rng(0)
        words = {word.lower() for key in data.keys for word in split_words(data[key].text)}
        lines = (
            f"{word} {' '.join(f'{x:.3f}' for x in random.normal(size=8))}" for word in sorted({*words, *EMOTIONS})
        )
        (path / "vectors.txt").write_text("\n".join(lines))
        spectra = {}
        for key in data.keys:
            samples = data[key].samples
            pieces = samples[: len(samples) // 6400 * 6400].reshape(-1, 6400) / 2**15
            bands = np.abs(np.fft.rfft(pieces))[:, :3200].reshape(-1, 16, 200).mean(axis=2)
            spectra[key] = np.log(bands + 1e-3)
        np.savez(path / "sound.npz", **spectra)
        writer.write_features(data, GloVe(file=str(path / "vectors.txt")), "glove")
        writer.write_features(data, HOG(), "hog")
        writer.write_features(data, Table(file=str(path / "sound.npz"), hop=0.4), "sound")

    return once("features", make) / "data"


@pytest.fixture(scope="module")
def recipe(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small settings, and a split that gives every part some of every class and train an odd number."""
    folder, data = tmp_path_factory.mktemp("recipe"), Dataset(features)
    view = data.schema.view("four")
    targets = {key: view.target(data.rows[key]["labels"]) for key in data.keys}
    parts: dict[str, list[str]] = {"valid": [], "test": []}
    train = []
    for number in range(len(view.classes)):
        same = [key for key, target in targets.items() if target is not None and target[number]]
        assert len(same) > 2
        parts["valid"].append(same[0])
        parts["test"].append(same[1])
        train.append(same[2:])
    if sum(map(len, train)) % 2 == 0:  # odd: in a step of one utterance, one of two ranks has none
        max(train, key=len).pop()
    parts["train"] = [key for keys in train for key in keys]
    (folder / "split.yaml").write_text(yaml.safe_dump(parts))
    path = folder / "small.yaml"
    path.write_text(f"{SMALL}data: {features}\nsplit: {folder / 'split.yaml'}\n")
    return path


def config(recipe: Path, *sets: str) -> RunConfig:
    """The small settings, changed by `sets`."""
    return load_recipe(str(recipe), sets)


@pytest.mark.parametrize("kind", TWO_PHASE)
def test_every_system_learns_the_train_part(recipe: Path, tmp_path: Path, kind: str) -> None:
    setup = prepare_run(config(recipe, f"model.kind={kind}"), tmp_path)
    assert train(setup, tmp_path, stop=lambda: False, logger=NullLogger())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    first, last = np.mean(losses[:3]), np.mean(losses[-3:])
    assert last < 0.6 * first
    table = pq.read_table(tmp_path / "predictions-test.parquet")
    assert table.num_rows == 4
    assert [line["kind"] for line in lines].count("valid") == 15


def test_a_run_is_complete_can_be_evaluated_again_and_resumes_exactly(recipe: Path, tmp_path: Path) -> None:
    settings = config(recipe, "model.kind=mult", "optim.epochs=3")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start_run(settings, whole, resume=False, stop=lambda: False, logger=NullLogger())
    steps = iter([False] * 4 + [True] * 100)
    assert not start_run(settings, parts, resume=False, stop=lambda: next(steps), logger=NullLogger())
    assert start_run(settings, parts, resume=True, stop=lambda: False, logger=NullLogger())
    first, second = (pq.read_table(run / "predictions-test.parquet").to_pylist() for run in (whole, parts))
    assert first == second
    evaluated = evaluate(whole, part="test")
    assert evaluated.before == evaluated.scores
    assert not evaluated.differences
    operations = json.loads((whole / "operations.json").read_text())
    assert operations["models"]["mult"]["head"] > 0
    assert "reads features" in (whole / "report.html").read_text()
    described = json.loads((whole / "provenance.json").read_text())["features"]
    assert {modality: each["kind"] for modality, each in described.items()} == {
        "t": "glove", "v": "hog", "a": "own",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"'sound' is of the kind own .* cannot be computed from a clip"):
        load_run(whole)


def test_a_run_goes_on_at_the_rate_that_a_plateau_left(recipe: Path, tmp_path: Path) -> None:
    sets = ["optim.schedule=plateau", "optim.plateau_patience=0", "optim.lr=0.3", "optim.epochs=8", "optim.batch=4"]
    settings, ended = config(recipe, *sets), False
    [whole, parts] = [tmp_path / name for name in ("whole", "parts")]
    for run in (whole, parts):
        run.mkdir()
    assert train(prepare_run(settings, whole), whole, stop=lambda: False, logger=NullLogger())
    while not ended:  # three updates at a time
        stop = partial(next, iter([False] * 3), True)
        ended = train(prepare_run(settings, parts), parts, stop=stop, logger=NullLogger())
    assert journal(parts) == journal(whole)
    assert len({line["lr"] for line in journal(whole) if line["kind"] == "train"}) > 2


def test_statistics_are_those_of_the_train_part(recipe: Path, tmp_path: Path) -> None:
    setup = prepare_run(config(recipe), tmp_path)
    assert isinstance(setup.model, TwoPhaseModel)
    features = open_set(setup.dataset.path, "sound")
    rows = np.concatenate([features.values(key) for key in setup.keys["train"]]).astype(np.float64)
    np.testing.assert_allclose(setup.model.get_buffer("mean_a").numpy(), rows.mean(axis=0), rtol=1e-5)
    scale = setup.model.get_buffer("inverse_deviation_a").numpy()
    np.testing.assert_allclose(scale, 1 / rows.std(axis=0), rtol=1e-4)
    assert not setup.model.get_buffer("mean_t").any()  # word vectors stay as they are


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["model.two_phase.features.v=faces"], r"has no features 'faces' \(there are: glove, hog, sound\)"),
        (["model.kind=emo-embs", "model.two_phase.features.t=hog"], "has none: take a set of"),
        (["model.kind=emo-embs", "model.two_phase.emo_embs.words=[angry, sad]"], "has 2 words for the classes"),
        (["model.kind=emo-embs", "model.two_phase.emo_embs.words=[x, y, z, w]"], "no vector of 'x', the word of class"),
        (["model.kind=lf-transformer", "model.two_phase.lf_transformer.heads=[3, 4, 1]"], "t has 8"),
        (["augment.face_flip=0.5"], "reads features"),
        (["loader.undetected=skip"], "reads features"),
        (["loader.source=webdataset"], "reads shards"),
    ],
)
def test_settings_that_do_not_fit_the_features_are_refused_by_name(
    recipe: Path, tmp_path: Path, sets: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepare_run(config(recipe, *sets), tmp_path)


def test_features_of_another_dataset_are_refused(recipe: Path, features: Path, tmp_path: Path) -> None:
    shutil.copytree(features, tmp_path / "data")
    file = tmp_path / "data" / "features" / "hog" / "features.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "dataset": "0" * 64}))
    with pytest.raises(InputError, match="hog was computed of another dataset"):
        select_data(config(recipe, f"data={tmp_path / 'data'}"))


NO_DROPOUT = [
    "model.two_phase.lf_transformer.dropout=0", "model.two_phase.mult.dropout=0",
    "model.two_phase.mult.input_dropout=0", "model.two_phase.mult.attention_dropout=[0, 0, 0]",
]  # fmt: skip


@pytest.mark.parametrize("kind", TWO_PHASE)
def test_two_ranks_train_as_one(recipe: Path, tmp_path: Path, kind: str) -> None:
    """Up to rounding, also in a step of one utterance; without dropout, which depends on how a step is dealt."""
    sets = [f"model.kind={kind}", "optim.batch=2", "optim.epochs=1", "optim.lr=1e-3", *NO_DROPOUT]
    lines, read = {}, {}
    for world in (1, 2):
        run = tmp_path / f"on {world}"
        read[world] = ranks(world, trained, str(recipe), sets, run, None, folder=tmp_path / f"store {world}")
        lines[world] = journal(run)
    assert any(not keys for _, _, keys in read[2][1])
    assert [line["kind"] for line in lines[1]] == [line["kind"] for line in lines[2]]
    for one, two in zip(lines[1], lines[2], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
    assert {line["ranks"] for line in lines[2] if line["kind"] == "train"} == {2}


@pytest.mark.parametrize("name", [name for name in recipes() if name.endswith(TWO_PHASE)])
def test_recipes_fit_the_features_that_they_name(name: str) -> None:
    """50 numbers of a word, 132 of a crop (35 of FACET), 50 of 0.4 s of sound (74 of COVAREP)."""
    model = load_recipe(name).model
    widths = (50, 35, 74) if name.startswith("mosei") else (50, 132, 50)
    features = replace(model.two_phase.features, dims=widths)
    settings = replace(model, two_phase=replace(model.two_phase, features=features))
    emotions = torch.zeros(6, 50) if model.kind == "emo-embs" else None
    assert make_two_phase(settings, emotions).settings.classes == 6
    assert len(model.two_phase.emo_embs.words) == (6 if model.kind == "emo-embs" else 0)

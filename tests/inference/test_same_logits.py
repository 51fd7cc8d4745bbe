"""The span of a source gives the logits of its sample in the shard, for every kind of model, exported or not."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import train
from tiny_encoders import image, roberta, speech

import mesm_train
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import MesmError
from mesm_data.features import writer
from mesm_data.features.extractors.egemaps import EGeMAPS
from mesm_data.features.extractors.glove import GloVe
from mesm_data.features.extractors.hog import HOG
from mesm_data.schema.recordings import Word
from mesm_train.config.two_phase_settings import TWO_PHASE
from mesm_train.explain.occlusion import occlude, without_modality
from mesm_train.inference import Clip, Prediction
from mesm_train.inference.clip_features import open_clip_features
from mesm_train.inference.clips import ClipInput
from mesm_train.inference.decode import decode
from mesm_train.inference.hub_model import export_hub_folder
from mesm_train.inference.onnx_export import export_onnx

TOLERANCE = 1e-4
Once = Callable[[str, Callable[[Path], None]], Path]
SMALL = {
    "lf-lstm": "lf_lstm={hidden: [8, 8, 8]}",
    "lf-transformer": "lf_transformer={heads: [2, 4, 2], feedforward: 16, layers: 1}",
    "emo-embs": "emo_embs={words: [angry, excited, frustrated, happy, neutral, sad], hidden: [8, 8], layers: 1}",
    "mult": "mult={dim: 8, heads: 2, layers: 1}",
}


@pytest.fixture(scope="session")
def pretrained_run(once: Once, settings_file: Path, dataset: Path) -> Path:
    """FE2E with a RoBERTa, a WavLM and a ViT, which are gone after the training."""

    def make(path: Path) -> None:
        encoders, opened = path.with_name("encoders"), Dataset(dataset)
        texts = [opened[key].text for key in opened.keys]
        places = {
            "text": roberta(encoders / "text", texts), "sound": speech(encoders / "speech"),
            "faces": image(encoders / "image"),
        }  # fmt: skip
        train(settings_file, path, "fe2e", *(f"{section}.encoder={place}" for section, place in places.items()))
        shutil.rmtree(encoders)

    return once("inference-pretrained", make)


@pytest.fixture(scope="session")
def feature_dataset(once: Once, dataset: Path) -> Path:
    """The dataset with the three feature sets that can be computed from a clip."""
    pytest.importorskip("opensmile")

    def make(path: Path) -> None:
        shutil.copytree(dataset, path, ignore=shutil.ignore_patterns("video"))
        for name, extractor in (("egemaps", EGeMAPS()), ("hog", HOG()), ("glove", GloVe())):
            writer.write(Dataset(path), extractor, name)

    return once("inference-features", make)


@pytest.fixture
def run(request: pytest.FixtureRequest, once: Once, settings_file: Path) -> Path:
    """A run of the kind that the test names."""
    kind = request.param
    if kind not in TWO_PHASE:
        folder: Path = request.getfixturevalue(f"{kind}_run")
        return folder
    data = request.getfixturevalue("feature_dataset")
    sets = (f"data={data}", f"model.two_phase.{SMALL[kind]}")
    return once(f"inference-{kind}", lambda path: train(settings_file, path, kind, *sets))


@pytest.fixture(scope="module")
def inputs(corpus: Path, dataset: Path, fe2e_run: Path) -> dict[str, ClipInput]:
    """Spans of the test part, decoded from the dialogs.

    The shards take the sound of the sentence files, which a dialog's wav follows up to rounding.
    """
    opened, clips = Dataset(dataset), dict[str, Clip]()
    for key in pq.read_table(fe2e_run / "predictions-test.parquet")["key"].to_pylist()[:6]:
        record = opened[key].record
        name, wears_markers = record["dialog"], key.rpartition("_")[2][0] == record["dialog"][5]
        folder = corpus / f"Session{name[4]}/dialog"
        clips[key] = Clip(
            path=folder / f"avi/DivX/{name}.avi", audio=folder / f"wav/{name}.wav", text=record["text"],
            words=tuple(Word(word=word["w"], start=word["t0"], end=word["t1"]) for word in record["words"]),
            start=record["start"], end=record["end"], channel=1 if wears_markers else 2,
            face="left" if wears_markers else "right",
        )  # fmt: skip
    recipe, decoded = Recipe(corpus="iemocap", clips=False), dict[str, ClipInput]()
    for _, group in groupby(sorted(clips, key=lambda key: str(clips[key].source)), lambda key: clips[key].source):
        keys = list(group)
        decoded |= zip(keys, decode([clips[key] for key in keys], recipe, "tva", square=224 / 480), strict=True)
    for key, clip_input in decoded.items():
        assert np.array_equal(clip_input.faces, opened[key].faces), key
        assert list(clip_input.times) == opened[key].record["faces"]["times"], key
    return decoded


@pytest.mark.parametrize("run", ["fe2e", "trained", "pretrained", *TWO_PHASE], indirect=True)
def test_the_spans_of_an_iemocap_dialog_give_the_logits_that_the_run_recorded(
    run: Path, inputs: dict[str, ClipInput], dataset: Path, tmp_path: Path
) -> None:
    """Of the run's folder and of an exported one; nothing else is there.

    MESM's choice of sites, WavLM and eGeMAPS magnify the difference of the dialog's wav to 1e-4 and more: all but FE2E
    with its own stacks get the sound of the shard.
    """
    model = mesm_train.load(run, device="cpu")
    if model.model.settings.kind != "fe2e" or model.encoders:
        inputs = {key: replace(each, samples=Dataset(dataset)[key].samples) for key, each in inputs.items()}
    table = {row["key"]: row for row in pq.read_table(run / "predictions-test.parquet").to_pylist()}
    export_hub_folder(model, run, tmp_path / "hub")
    exported = mesm_train.load(tmp_path / "hub", device="cpu")
    assert len(inputs) == 6
    for each in (model, exported):
        for key, answer in zip(inputs, each.predict_inputs(list(inputs.values())), strict=True):
            expected = {name: table[key][f"logit_{name}"] for name in answer.logits}
            assert answer.logits == pytest.approx(expected, abs=TOLERANCE), key


@pytest.mark.parametrize(
    ("run", "reason"),
    [("pretrained", "pretrained encoders of sound or faces have no portable form"), ("lf-lstm", "it reads features")],
    indirect=["run"],
)
def test_what_onnx_cannot_hold_is_refused_and_nothing_is_written(run: Path, reason: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(MesmError, match=reason):
        export_onnx(mesm_train.load(run, device="cpu"), tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("run", ["mult"], indirect=True)
def test_a_two_phase_system_is_explained_by_its_parts(run: Path, inputs: dict[str, ClipInput]) -> None:
    """A face that is left out takes its box along; a modality that is missing has no row."""
    model, content = mesm_train.load(run, device="cpu"), next(iter(inputs.values()))
    parts = occlude(model, content)
    assert {part.kind for part in parts} == {"modality", "word", "face", "sound"}
    assert sum(part.kind == "face" for part in parts) == len(content.faces)
    [whole, without] = model.predict_inputs([content, without_modality(content, "v")])
    [faces] = [part for part in parts if (part.kind, part.name) == ("modality", "faces")]
    expected = [whole.logits[name] - without.logits[name] for name in whole.logits]
    assert faces.effect == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("run", ["emo-embs"], indirect=True)
def test_another_version_of_a_library_is_noted(run: Path, inputs: dict[str, ClipInput]) -> None:
    model = mesm_train.load(run, device="cpu")
    sets = {m: {**described, "libraries": {}} for m, described in model.spec.features.items()}
    sets["v"] = {**sets["v"], "libraries": {"scikit-image": "0.1"}}
    changed = replace(model, features=open_clip_features(sets))
    [answer] = changed.predict_inputs([next(iter(inputs.values()))])
    assert any(note.startswith("hog: computed by scikit-image") and note.endswith("0.1") for note in answer.notes)
    assert not any("hog" in note for note in model.predict_inputs([next(iter(inputs.values()))])[0].notes)


def test_a_span_of_a_mosei_video_gives_the_logits_of_its_sample(
    fe2e_run: Path, mosei_corpus: Path, mosei_dataset: Path
) -> None:
    """A model's outputs follow from its inputs, so a model of another corpus proves it too."""
    model, opened = mesm_train.load(fe2e_run, device="cpu"), Dataset(mosei_dataset)
    model = replace(model, spec=replace(model.spec, fallback_square=1.0))
    clips = {}
    for key in opened.keys:
        record = opened[key].record
        paths = {source["role"]: mosei_corpus / source["path"] for source in record["sources"]}
        audio = {} if paths["sound"] == paths["picture"] else {"audio": paths["sound"]}
        times = {"start": record["start"], "end": record["end"], "text": record["text"]}
        clips[key] = Clip(path=paths["picture"], **times, **audio)
    assert len(clips) >= 5
    stored = model.predict_samples([opened[key] for key in clips])
    answers = model.predict_clips(clips.values(), keep_input=True, allow_missing=True)
    for key, answer, expected in zip(clips, answers, stored, strict=True):
        assert isinstance(answer, Prediction), answer
        assert answer.input is not None
        assert np.array_equal(answer.input.faces, opened[key].faces), key
        assert list(answer.input.times) == opened[key].record["faces"]["times"]
        assert np.array_equal(answer.input.samples, opened[key].samples), key
        assert answer.logits == pytest.approx(expected.logits, abs=TOLERANCE), key

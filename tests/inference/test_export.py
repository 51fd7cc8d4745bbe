"""Guarantees of export: another program, or another machine, computes the same logits."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from onnx_check import check_onnx
from safetensors.torch import load_file
from torch import nn

import mesm_train
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError, MesmError
from mesm_train.config.model_settings import ModelSettings, SparseSettings, TextSettings
from mesm_train.data.input_spec import HeadSpec
from mesm_train.data.tokenizer import tokenize
from mesm_train.inference.hub_model import HubModel, export_hub_folder
from mesm_train.inference.model_card import model_card
from mesm_train.inference.onnx_export import export_onnx
from mesm_train.inference.portable import PortableModel, example_batch, example_inputs
from mesm_train.models.fe2e_mesm import Model
from mesm_train.models.text import copy_tokenizer, load, load_without_weights
from mesm_train.models.tiny_text import make_tiny

SITES: Any = {"tile": 1, "anneal_epochs": 0}  # without importance


@pytest.fixture(scope="module")
def hub_folder(fe2e_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "model"
    export_hub_folder(mesm_train.load(fe2e_run, device="cpu"), fe2e_run, folder)
    return folder


def test_a_card_names_the_damaged_table_of_predictions(fe2e_run: Path, tmp_path: Path) -> None:
    predictor, table = mesm_train.load(fe2e_run, device="cpu"), tmp_path / "predictions-test.parquet"
    table.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"predictions-test\.parquet is not a readable Parquet file"):
        model_card(predictor, tmp_path)
    pq.write_table(pa.table({"key": ["a"]}), table)
    with pytest.raises(InputError, match=r"predictions-test\.parquet has no column 'logit_"):
        model_card(predictor, tmp_path)


def test_a_card_has_a_dash_for_a_class_that_nobody_has(
    fe2e_run: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    table = pq.read_table(fe2e_run / "predictions-test.parquet")
    place = table.column_names.index("label_ang")
    without = table.set_column(place, "label_ang", pa.array([0.0] * len(table), pa.float32()))
    pq.write_table(without, tmp_path / "predictions-test.parquet")
    card = model_card(mesm_train.load(fe2e_run, device="cpu"), tmp_path)
    assert "| Anger | – | – | – | 0 |" in card
    assert "nan |" not in card
    assert not [each for each in recwarn.list if issubclass(each.category, RuntimeWarning)]


def test_a_card_of_numbers_has_their_scores_beside_the_best_constant(fe2e_run: Path, tmp_path: Path) -> None:
    predictor = mesm_train.load(fe2e_run, device="cpu")
    head = HeadSpec(view="mood", kind="number", outputs=predictor.spec.outputs)
    columns: dict[str, Any] = {"key": ["a", "b", "c"]}
    for name in head.outputs:
        columns |= {f"prediction_{name}": [10.0, 20.0, 60.0], f"target_{name}": [0.0, 20.0, 100.0]}
    pq.write_table(pa.table(columns), tmp_path / "predictions-test.parquet")
    card = model_card(replace(predictor, spec=replace(predictor.spec, heads=[head])), tmp_path)
    assert "| ang | 0.767 | 1.000 | 16.667 | 33.333 |" in card
    assert "| ang | Anger | number | – |" in card


def test_an_exported_folder_gives_the_same_predictions_without_a_network(
    hub_folder: Path, fe2e_run: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    here, there = (mesm_train.load(place, device="cpu") for place in (fe2e_run, hub_folder))
    assert there.spec == here.spec
    assert there.calibration == here.calibration
    samples = [Dataset(dataset)[key] for key in Dataset(dataset).keys[:3]]
    with torch.no_grad():
        logits = [model.model(mesm_train.collate(samples, tokenizer=model.tokenizer)) for model in (here, there)]
    assert torch.equal(*logits)


def test_the_folder_has_the_layout_of_the_hub_and_a_card_of_facts(hub_folder: Path, fe2e_run: Path) -> None:
    assert {path.name for path in hub_folder.iterdir()} == {"README.md", "config.json", "model.safetensors", "text"}
    model = HubModel.from_pretrained(hub_folder)
    assert set(model.state_dict()) == set(load_file(hub_folder / "model.safetensors"))
    card, facts = (hub_folder / "README.md").read_text(), json.loads((fe2e_run / "provenance.json").read_text())
    for fact in (
        "library_name: mesm", "synthetic", facts["dataset"]["root"], facts["split"]["digest"], "always yes",
        "Its parts share", "| ang | Anger | binary |", "95 % interval",
        f"Trained on the {model.spec.train['utterances']} utterances",
    ):  # fmt: skip
        assert fact in card, fact
    for path in hub_folder.rglob("*"):
        assert path.is_dir() or str(fe2e_run).encode() not in path.read_bytes(), f"{path} names a folder"


def test_damaged_files_and_unsuitable_folders_are_named(hub_folder: Path, fe2e_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="new or an empty folder"):
        export_hub_folder(mesm_train.load(fe2e_run, device="cpu"), None, hub_folder)
    shutil.copytree(hub_folder, tmp_path / "torn")
    weights = (tmp_path / "torn/model.safetensors").read_bytes()
    (tmp_path / "torn/model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(MesmError, match="does not load as a model"):
        mesm_train.load(tmp_path / "torn")
    config = json.loads((tmp_path / "torn/config.json").read_text())
    config["spec"]["heads"][0]["kind"] = "oracle"
    (tmp_path / "torn/config.json").write_text(json.dumps(config))
    with pytest.raises(MesmError, match="heads of the kind 'oracle'"):
        mesm_train.load(tmp_path / "torn")
    (tmp_path / "torn/config.json").write_text("{}")
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        mesm_train.load(tmp_path / "torn")


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    make_tiny(["I am so happy today!", "Why would you do that?"], folder, 7, TextSettings(encoder="tiny"))
    return folder


def test_a_run_keeps_the_tokenizer_and_not_the_weights_of_its_encoder(tiny_encoder: Path, tmp_path: Path) -> None:
    settings = TextSettings(encoder=str(tiny_encoder))
    copy_tokenizer(settings, tmp_path / "text")
    assert not list((tmp_path / "text").glob("*.safetensors"))
    (tokenizer, encoder), (expected, original) = load_without_weights(tmp_path / "text"), load(settings)
    texts = ["I am so happy today!", "", "Do that?"]
    for own, original_tokens in zip(tokenize(tokenizer, texts, 9), tokenize(expected, texts, 9), strict=True):
        assert torch.equal(own, original_tokens)
    encoder.load_state_dict(original.state_dict())
    tokens = tokenize(tokenizer, texts[:1], 9)[0]
    with torch.no_grad():
        states = [model.eval()(input_ids=tokens).last_hidden_state for model in (encoder, original)]
    assert torch.equal(*states)


def small_model(encoder: Path, **settings: object) -> Model:
    """With attentions, importance, statistics and a fusion unlike a fresh model's, in which mistakes would not show."""
    torch.manual_seed(3)
    sizes = {"channels": (4, 8, 16), "stem_blocks": 1, "hidden": 16, "dim": 8, "layers": 1, "heads": 2}
    text = load_without_weights(encoder)[1] if "t" in settings.get("modalities", "tva") else None  # type: ignore[operator]
    model = Model(ModelSettings(**{**sizes, "feedforward": 16, **settings}), text)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if name.endswith("attention.score.weight"):
            nn.init.normal_(parameter)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.5, 0.5)
        if name.endswith(("running_var", "importance.value")):
            buffer.uniform_(0.5, 2)
    return model.eval()


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "fe2e"},
        {"kind": "fe2e", "modalities": ("v", "a"), "log_mel": True},
        {"kind": "fe2e", "modalities": ("a",)},
        {"kind": "mesm", "sparse": SparseSettings(p=0.7, selection="gate", **SITES)},
        {"kind": "mesm", "sparse": SparseSettings(p=0.5, selection="published", **SITES)},
        {"kind": "mesm", "sparse": SparseSettings(p=1.0, **SITES)},
        {"kind": "mesm", "sparse": SparseSettings(p=0.4, tile=1)},  # importance of sites
        {"kind": "mesm", "sparse": SparseSettings(p=0.6, tile=2, selection="published")},
        {"kind": "mesm", "channels": (4, 8, 8, 8), "sparse": SparseSettings(p=0.5, selection="gate")},  # a grid of 6x6
    ],
)
def test_the_portable_form_computes_the_same_logits(settings: dict[str, object], tiny_encoder: Path) -> None:
    """Also where sites are chosen (p < 1) among equal ones, as in the zeros that fill the last piece of sound."""
    model = small_model(tiny_encoder, **settings)
    portable = PortableModel(model).eval()
    for seed, (tokens, faces, samples) in enumerate([(2, 1, 201), (9, 0, 6399), (30, 7, 40_000), (5, 3, 6400)]):
        inputs = example_inputs(model, tokens=tokens, faces=faces, samples=samples, seed=seed)
        with torch.no_grad():
            logits, expected = portable(*(value for value, _ in inputs.values())), model(example_batch(inputs))[0]
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


def test_the_examples_of_an_export_have_tokens_that_a_small_vocabulary_holds(tiny_encoder: Path) -> None:
    """As that of a tiny encoder on a corpus without transcripts, which has the four special tokens."""
    model = small_model(tiny_encoder, kind="fe2e")
    assert model.text is not None
    model.text.encoder.resize_token_embeddings(4, mean_resizing=False)
    assert example_inputs(model, tokens=50)["tokens"][0].max() == 3


@pytest.mark.parametrize(
    ("tile", "tolerance"),
    [
        pytest.param(4, 1e-4, marks=pytest.mark.slow),  # FE2E is exported by the test of docs/export.md
        pytest.param(1, 1e-2, marks=pytest.mark.slow),  # of many sites some weigh almost the same: rounding chooses
    ],
)
def test_onnxruntime_computes_the_logits_of_mesm(
    tile: int, tolerance: float, fe2e_run: Path, dataset: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    if torch.__version__.startswith("2.6."):
        pytest.skip("onnxruntime cannot run what torch 2.6 exports: docs/install.md")
    small = {"channels": (4, 8), "stem_blocks": 0, "sparse": SparseSettings(p=0.5, tile=tile)}
    model = replace(mesm_train.load(fe2e_run, device="cpu"), model=small_model(fe2e_run / "text", kind="mesm", **small))
    export_onnx(model, tmp_path / "onnx")
    check_onnx(model, dataset, tmp_path / "onnx", tolerance)

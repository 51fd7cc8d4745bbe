"""Pretrained encoders of sound and faces, on tiny random ones that are made on the spot: no network, no download."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import yaml
from tiny_encoders import image, speech

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError
from mesm_train.config.encoder_settings import EncoderSettings
from mesm_train.config.model_settings import ModelSettings, TextSettings
from mesm_train.config.recipe_files import load_recipe
from mesm_train.config.settings import OptimConfig
from mesm_train.data.batch import Batch
from mesm_train.data.mel import count_pieces
from mesm_train.data.tokenizer import tokenize
from mesm_train.inference.encoders import make_faces, make_sound
from mesm_train.models.encoder_features import EncoderFeatures
from mesm_train.models.fe2e_mesm import Model
from mesm_train.models.pretrained import frame_geometry, load_faces, load_sound
from mesm_train.models.text import load
from mesm_train.models.tiny_text import make_tiny
from mesm_train.runs.evaluate import evaluate
from mesm_train.runs.run import start_run
from mesm_train.training.optimizer import param_groups
from mesm_train.training.progress import NullLogger

COUNTS = [6400, 0, 100, 30_011]  # samples of four utterances


def batch_of(counts: list[int]) -> Batch:
    """Random sound and faces."""
    torch.manual_seed(1)
    number, faces = len(counts), [2, 1, 0, 3][: len(counts)]
    return Batch(
        keys=tuple(f"u{index}" for index in range(number)),
        faces=torch.randint(0, 256, (sum(faces), 48, 48, 3), dtype=torch.uint8), face_counts=torch.tensor(faces),
        samples=torch.randint(-3000, 3000, (sum(counts),), dtype=torch.int16), sample_counts=torch.tensor(counts),
        tokens=torch.zeros(number, 0, dtype=torch.int64), token_counts=torch.zeros(number, dtype=torch.int64),
        labels=torch.zeros(number, 3),
    )  # fmt: skip


def model_of(folder: Path, lr_factor: float = 0.1) -> Model:
    """A small model of sound and faces by both encoders."""
    settings = ModelSettings(modalities=("v", "a"), classes=3, dim=8, heads=2, layers=1, feedforward=16)
    sound = load_sound(EncoderSettings(encoder=str(speech(folder / "speech")), lr_factor=lr_factor), 8)
    faces = load_faces(EncoderSettings(encoder=str(image(folder / "image")), lr_factor=lr_factor), 8)
    return Model(settings, sound=sound, faces=faces)


@pytest.mark.parametrize("kind", ["WavLM", "Hubert", "Wav2Vec2"])
def test_a_piece_is_the_mean_of_the_frames_in_it(tmp_path: Path, kind: str) -> None:
    """Against transformers' own feature extractor and model, on the utterance with zeros up to the end of its piece."""
    folder = speech(tmp_path, kind)
    sound = load_sound(EncoderSettings(encoder=str(folder)), 4).eval()
    batch = batch_of(COUNTS)
    vectors, pieces = sound(batch.samples, batch.sample_counts)
    assert pieces.tolist() == count_pieces(batch.sample_counts).tolist()
    wave = batch.samples[-COUNTS[-1] :].numpy().astype(np.float32) / 32768
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    values = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_values
    count = int(pieces[-1])
    values = torch.nn.functional.pad(values, (0, 6400 * count + 80 - values.shape[1]))
    frames = transformers.AutoModel.from_pretrained(folder).eval()(values).last_hidden_state[0]
    assert len(frames) == 20 * count
    expected = sound.out(frames.view(count, 20, -1).mean(dim=1))
    torch.testing.assert_close(vectors[-count:], expected, atol=2e-5, rtol=1e-4)


def test_the_geometry_is_that_of_the_published_models() -> None:
    config = transformers.WavLMConfig()
    assert frame_geometry(config.conv_kernel, config.conv_stride) == (320, 400)


@pytest.mark.parametrize("kind", ["ViT", "CLIP"])
def test_a_face_is_the_pooled_output_of_its_normalised_crop(tmp_path: Path, kind: str) -> None:
    folder = image(tmp_path, kind)
    faces = load_faces(EncoderSettings(encoder=str(folder)), 4).eval()
    assert faces.size == 48
    crops = batch_of(COUNTS).faces
    pixels = (crops.permute(0, 3, 1, 2) / 255 - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor(
        [0.2, 0.25, 0.3]
    ).view(3, 1, 1)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    output = getattr(model, "vision_model", model)(pixel_values=pixels)
    torch.testing.assert_close(faces(crops), faces.out(output.pooler_output), atol=1e-5, rtol=1e-4)


def test_encoders_whose_files_are_in_half_precision_are_computed_in_float32(tmp_path: Path) -> None:
    """Loaded from their files, and made again by their description beside a checkpoint."""
    batch = batch_of(COUNTS)
    folders = {"sound": speech(tmp_path / "speech"), "faces": image(tmp_path / "image")}
    for folder in folders.values():
        transformers.AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    described = {
        name: {"config": json.loads((folder / "config.json").read_text()), "processor": {}}
        for name, folder in folders.items()
    }
    settings = {name: EncoderSettings(encoder=str(folder)) for name, folder in folders.items()}
    for sound in (load_sound(settings["sound"], 4), make_sound(described["sound"], 4)):
        assert sound(batch.samples, batch.sample_counts)[0].dtype == torch.float32
    for faces in (load_faces(settings["faces"], 4), make_faces(described["faces"], 4)):
        assert faces(batch.faces).dtype == torch.float32


@pytest.mark.parametrize("kind", ["ViT", "CLIP"])
def test_a_frozen_encoder_whose_files_lack_weights_is_refused(tmp_path: Path, kind: str) -> None:
    """As of models for classification, without a pooling layer: they would be other random numbers in each process."""
    folder = image(tmp_path, kind)
    model = transformers.AutoModel.from_pretrained(folder)
    weights = {name: value for name, value in model.state_dict().items() if "pooler" not in name}
    if kind == "CLIP":  # whose text model is not used
        weights = {name: value for name, value in weights.items() if not name.startswith("text_model.")}
    model.save_pretrained(folder, state_dict=weights)
    assert load_faces(EncoderSettings(encoder=str(folder), lr_factor=0.1), 4).size == 48
    frozen = EncoderSettings(encoder=str(folder), lr_factor=0)
    if kind == "CLIP":
        assert load_faces(frozen, 4).size == 48
        return
    with pytest.raises(InputError, match=r"lacks weights \(pooler\.dense\.bias, pooler\.dense\.weight\)"):
        load_faces(frozen, 4)


def test_no_logit_depends_on_the_batch_and_absent_modalities_add_nothing(tmp_path: Path) -> None:
    model, batch = model_of(tmp_path).eval(), batch_of(COUNTS)
    together = model(batch)
    alone = torch.cat([model(one) for one in batch.split()])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=1e-5)
    details = model.forward_details(batch)
    assert (details.branches["a"][1] == 0).all()
    assert (details.branches["v"][2] == 0).all()
    assert model(batch_of([])).shape == (0, 3)


def test_a_frozen_encoder_gets_no_gradient_and_a_trained_one_its_own_rate(tmp_path: Path) -> None:
    for factor in (0.0, 0.25):
        model = model_of(tmp_path / str(factor), factor).train()
        model(batch_of(COUNTS)).square().sum().backward()
        assert model.sound is not None
        assert model.faces is not None
        for branch in (model.sound, model.faces):
            assert branch.encoder.training == bool(factor)
            with_gradient = [each for each in branch.encoder.parameters() if each.grad is not None and each.grad.any()]
            assert bool(with_gradient) == bool(factor)
            assert branch.out.weight.grad is not None
        groups = param_groups(model, OptimConfig())
        assert {group["factor"] for group in groups} == ({1.0} if factor == 0 else {1.0, 0.25})
        trainable = [id(each) for group in groups for each in group["params"]]
        assert len(trainable) == len(set(trainable))
        assert set(trainable) == {id(each) for each in model.parameters() if each.requires_grad}


def test_models_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    faces, sound = image(tmp_path / "image"), speech(tmp_path / "speech")
    with pytest.raises(InputError, match=r"sound\.encoder .* is no speech model"):
        load_sound(EncoderSettings(encoder=str(faces)), 4)
    with pytest.raises(InputError, match=r"faces\.encoder .* is no image model"):
        load_faces(EncoderSettings(encoder=str(sound)), 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"sound\.encoder .* does not load"):
        load_sound(EncoderSettings(encoder=str(tmp_path / "empty")), 4)
    file = sound / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "sampling_rate": 8000}))
    with pytest.raises(InputError, match="it takes sound of 8000 Hz"):
        load_sound(EncoderSettings(encoder=str(sound)), 4)


def test_a_run_with_both_encoders_is_complete_and_can_be_evaluated_again(dataset: Path, tmp_path: Path) -> None:
    """The recipe with faces, on tiny encoders."""
    data = Dataset(dataset)
    view = data.schema.view("four")
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for emotion in range(4):
        targets = ((key, view.target(data.rows[key]["labels"])) for key in data.keys)
        same = [key for key, target in targets if target is not None and target[emotion]]
        parts["valid"].append(same[0])
        parts["test"].append(same[1])
        parts["train"] += same[2:]
    (tmp_path / "split.yaml").write_text(yaml.safe_dump(parts))
    sets = (
        f"data={dataset}", f"split={tmp_path / 'split.yaml'}", "device=cpu", "text.encoder=tiny", "model.dim=8",
        "model.heads=2", "model.layers=1", "model.feedforward=16", "optim.epochs=1", "report.media=false",
        f"sound.encoder={speech(tmp_path / 'speech')}", f"faces.encoder={image(tmp_path / 'image')}",
    )  # fmt: skip
    config = load_recipe("iemocap-wavlm-roberta-vit", sets)
    run = tmp_path / "run"
    assert start_run(config, run, resume=False, stop=lambda: False, logger=NullLogger())
    evaluated = evaluate(run, part="test")
    assert evaluated.before == evaluated.scores
    described = json.loads((run / "provenance.json").read_text())
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= described["sound"]["files"].keys()
    operations = json.loads((run / "operations.json").read_text())["models"]["fe2e"]
    assert {"text", "a.encoder", "v.encoder", "a.sequence", "v.sequence"} <= operations.keys()


def test_features_of_a_frozen_encoder_are_what_it_computes_in_training(dataset: Path, tmp_path: Path) -> None:
    data = Dataset(dataset)
    key = data.keys[0]
    sample = data[key]
    places = {"sound": speech(tmp_path / "speech"), "faces": image(tmp_path / "image")}
    extractors = {branch: EncoderFeatures(encoder=str(place)) for branch, place in places.items()}
    features = {branch: each.open(tmp_path)(data, key) for branch, each in extractors.items()}
    for branch, extractor in extractors.items():
        assert extractor.branch == branch
        assert len(extractor.describe().columns) == features[branch].values.shape[1] == 16
    sound = load_sound(EncoderSettings(encoder=str(places["sound"]), lr_factor=0), 4).eval()
    samples = torch.from_numpy(sample.samples.copy())
    expected, _ = sound(samples, torch.tensor([len(samples)]))
    torch.testing.assert_close(sound.out(torch.from_numpy(features["sound"].values)), expected)
    faces = load_faces(EncoderSettings(encoder=str(places["faces"]), lr_factor=0), 4).eval()
    expected = faces(torch.from_numpy(sample.faces.copy()))
    torch.testing.assert_close(faces.out(torch.from_numpy(features["faces"].values)), expected)
    assert features["faces"].times is not None
    assert features["faces"].times.tolist() == sample.record["faces"]["times"]
    settings = TextSettings(encoder="tiny")
    make_tiny([data[each].text for each in data.keys], tmp_path / "text", 0, settings)
    words = EncoderFeatures(encoder=str(tmp_path / "text"))
    tokenizer, encoder = load(replace(settings, encoder=str(tmp_path / "text")))
    tokens, _ = tokenize(tokenizer, [sample.text], 100)
    states = encoder.eval()(tokens).last_hidden_state[0]
    np.testing.assert_allclose(words.open(tmp_path)(data, key).values, states.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["model.kind=mesm", "sound.encoder=x"], r"sound\.encoder is 'x'; it must be null, but for model\.kind fe2e"),
        (["model.modalities=[t, a]", "faces.encoder=x"], r"faces\.encoder is 'x'; it must be null"),
        (["sound.lr_factor=-1"], "lr_factor is -1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(sets: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe("iemocap-fe2e", sets)

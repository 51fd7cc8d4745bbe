"""What a run says at its start: settings that have no effect on it, and that it is resumed elsewhere."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from small_runs import RecordedLines, small_recipe, train_small

from mesm_train.config.recipe_files import load_recipe, recipes
from mesm_train.runs.run import start_run
from mesm_train.training.unused_settings import unused_settings


@pytest.mark.parametrize("recipe", recipes())
def test_a_recipe_changes_nothing_in_vain(recipe: str) -> None:
    config = load_recipe(recipe)
    assert list(unused_settings(config, config)) == []


@pytest.mark.parametrize(
    ("recipe", "sets", "unused"),
    [
        ("iemocap-lf-lstm", "model.dropout=.3 model.two_phase.lf_lstm.dropout=.3", "model.dropout"),
        ("iemocap-mult", "model.two_phase.lf_lstm.layers=2 text.max_tokens=50",
         "model.two_phase.lf_lstm.layers, text.max_tokens"),
        ("iemocap-fe2e", "model.sparse.p=.5 model.sparse.engine=torch", "model.sparse.p"),
        ("iemocap-fe2e", "model.modalities=[t,a] augment.face_flip=.5 augment.mask_mels=9", "augment.face_flip"),
        ("iemocap-fe2e", "model.modalities=[v,a] text.encoder=tiny optim.text_lr_factor=1",
         "text.encoder, optim.text_lr_factor"),
        ("iemocap-wavlm-roberta-vit", "model.hidden=9 model.dim=8 model.log_mel=true", "model.hidden, model.log_mel"),
        ("demo-fe2e", "optim.plateau_factor=.5 sound.lr_factor=1", "sound.lr_factor, optim.plateau_factor"),
    ],
)  # fmt: skip
def test_what_a_kind_of_model_does_not_use_is_named(recipe: str, sets: str, unused: str) -> None:
    config = load_recipe(recipe, sets.split())
    [sentence] = unused_settings(config, config)
    assert sentence == f"this run (model.kind {config.model.kind}) does not use {unused}"


def test_what_a_run_calls_unused_changes_none_of_its_weights(dataset: Path, tmp_path: Path) -> None:
    recipe, spoken, weights = small_recipe(tmp_path, dataset), RecordedLines(), []
    sets = ["optim.epochs=1", "model.classes=7", "model.hidden=32", "model.dropout=.5", "augment.mask_seconds=1"]
    for name, count in (("plain", 1), ("changed", len(sets))):
        config = load_recipe(str(recipe), sets[:count])
        start_run(config, tmp_path / name, resume=False, stop=lambda: False, logger=spoken)
        [path] = (tmp_path / name / "checkpoints").glob("*/model.safetensors")
        weights.append({name: tensor.tolist() for name, tensor in load_file(path).items()})
    assert weights[0] == weights[1]
    assert "note: model.classes is 6 and not 7: it follows from the data" in spoken.lines
    assert any("augment.mask_seconds" in line for line in spoken.lines if line.startswith("note: this run"))


def test_a_run_that_is_resumed_elsewhere_names_what_differs_and_what_no_training_utterance_has(
    dataset: Path, tmp_path: Path
) -> None:
    recipe, run, spoken = small_recipe(tmp_path, dataset), tmp_path / "run", RecordedLines()
    config = train_small(recipe, run, "optim.epochs=1")
    start_run(config, run, resume=True, stop=lambda: False, logger=spoken)
    assert not any("elsewhere" in line for line in spoken.lines)
    specification = json.loads((run / "input_spec.json").read_text())
    specification["train"]["missing"]["t"] = specification["train"]["utterances"]
    (run / "input_spec.json").write_text(json.dumps(specification))
    start_run(config, run, resume=True, stop=lambda: False, logger=spoken)
    assert "note: no utterance of the train part has text: predict leaves it out" in spoken.lines
    facts = json.loads((run / "provenance.json").read_text())
    facts["environment"]["threads"] = 99
    (run / "provenance.json").write_text(json.dumps(facts))
    start_run(config, run, resume=True, stop=lambda: False, logger=spoken)
    [note] = [line for line in spoken.lines if "elsewhere" in line]
    assert "(environment.threads: 99 before, 1 now)" in note

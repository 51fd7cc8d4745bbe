"""Guarantees of explanations: an effect is a difference of two predictions, and the page needs nothing but itself."""

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from mesm_cli.explain import explain

import mesm_train
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError
from mesm_train.config.recipe_files import load_recipe
from mesm_train.explain.contents import Subject, dataset_subjects, default_keys, worst_keys
from mesm_train.explain.occlusion import count_passes, occlude
from mesm_train.explain.page import render_explanation
from mesm_train.explain.untrained import untrained_model
from mesm_train.inference.clips import ClipInput, of_sample
from mesm_train.inference.make_model import make_model
from mesm_train.inference.predictor import Predictor
from mesm_train.models.fe2e_mesm import Model
from mesm_train.report.record import read_record
from mesm_train.training.setup import prepare_run


@pytest.fixture(scope="module")
def predictor(trained_run: Path) -> Predictor:
    return mesm_train.load(trained_run, device="cpu")


@pytest.fixture(scope="module")
def content(dataset: Path) -> ClipInput:
    opened = Dataset(dataset)
    key = next(key for key in opened.keys if opened.rows[key]["n_faces"] > 2 and opened.rows[key]["n_words"])
    return of_sample(opened[key], float(opened.info["recipe"]["frame_interval"]))


def logits(predictor: Predictor, content: ClipInput) -> np.ndarray:
    return np.array(list(predictor.predict_inputs([content])[0].logits.values()))


def test_an_effect_is_the_logit_with_the_part_minus_the_logit_without_it(
    predictor: Predictor, content: ClipInput
) -> None:
    parts = occlude(predictor, content)
    complete = logits(predictor, content)
    words = content.text.split()
    rate = content.sample_rate
    for kind in ("modality", "word", "face", "sound"):
        part = [part for part in parts if part.kind == kind][-1]
        without = content
        if kind == "modality":
            assert part.name == "sound"
            without = replace(content, samples=content.samples[:0])
        elif kind == "word":
            assert part.name == words[-1]
            without = replace(content, text=" ".join(words[:-1]))
        elif kind == "face":
            without = replace(content, faces=np.delete(content.faces, part.index, axis=0))
        else:
            samples = content.samples.copy()
            assert part.start is not None
            samples[round(part.start * rate) :] = 0
            without = replace(content, samples=samples)
        expected = complete - logits(predictor, without)
        np.testing.assert_allclose(part.effect, expected, atol=1e-5)
        assert np.abs(expected).max() > 0


def test_every_part_is_occluded_once(predictor: Predictor, content: ClipInput) -> None:
    done: list[int] = []
    parts = occlude(predictor, content, step=done.append)
    assert sum(done) == count_passes(predictor, content) == len(parts) + 1
    assert [part.name for part in parts if part.kind == "word"] == content.text.split()
    assert len([part for part in parts if part.kind == "face"]) == len(content.faces)
    stretches = [part for part in parts if part.kind == "sound"]
    assert [part.end for part in stretches[:-1]] == [part.start for part in stretches[1:]]
    assert stretches[-1].end == len(content.samples) / content.sample_rate


def test_a_sample_is_predicted_as_the_run_recorded(trained_run: Path, predictor: Predictor) -> None:
    record = read_record(trained_run).predictions
    assert record is not None
    subjects = dataset_subjects(trained_run, record.keys[:3])
    for subject, row, targets in zip(subjects, record.logits, record.targets, strict=False):
        np.testing.assert_allclose(logits(predictor, subject.content), row, atol=1e-4)
        assert list(subject.true.values()) == targets.tolist()


def test_the_page_needs_nothing_but_itself(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = default_keys(trained_run, "test")[:2]
    explain(trained_run, keys=",".join(keys), device="cpu", out=tmp_path / "page.html")
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert not re.search(r"url\((?!#)|@import|https?:|<link|<iframe", html)
    assert all(address.startswith("data:") for address in re.findall(r'src="([^"]*)"', html))
    assert html.count("<audio") == html.count('<article class="subject"') == 2
    assert "Synthetic data" in html
    effects = [json.loads(unescape(attribute)) for attribute in re.findall(r'data-effect="([^"]*)"', html)]
    assert {len(effect) for effect in effects} == {6}
    assert len(effects) > 40


def test_the_worst_mistakes_and_clips_are_explained(
    trained_run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_record(trained_run).predictions
    assert record is not None
    [worst] = worst_keys(trained_run, 1)
    assert record.wrong[record.keys.index(worst)]
    clip = min(corpus.glob("Session*/sentences/**/*.wav"))
    explain(trained_run, [str(clip)], text="<b>what & why</b>", device="cpu", out=tmp_path / "clip.html")
    html = (tmp_path / "clip.html").read_text()
    assert "&lt;b&gt;what" in html
    assert "No faces" in html
    assert "Synthetic data" not in html  # it is not known of a clip


def test_what_cannot_be_explained_is_refused(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--keys nobody: there is no such utterance"):
        explain(trained_run, keys="nobody", device="cpu")
    with pytest.raises(InputError, match="not several of them"):
        explain(trained_run, keys="one", worst=1)
    with pytest.raises(InputError, match="holds neither a run"):
        explain(tmp_path)


def test_the_choice_before_training_is_that_of_the_weights_with_which_the_run_began(
    trained_run: Path, predictor: Predictor, content: ClipInput
) -> None:
    untrained = untrained_model(predictor)
    assert untrained is not None
    first = prepare_run(load_recipe(str(trained_run / "config.yaml")), trained_run).model.state_dict()
    own = {name: value for name, value in untrained.state_dict().items() if not name.startswith("text.")}
    assert own.keys() == {name for name in first if not name.startswith("text.")}
    for name, value in own.items():
        torch.testing.assert_close(value, first[name], rtol=0, atol=0, msg=name)
    trained = predictor.model.state_dict()
    assert not any(torch.equal(value, trained[name]) for name, value in own.items() if name.endswith("conv.weight"))
    for name, value in untrained.state_dict().items():
        if name.startswith("text."):
            assert value is trained[name] or torch.equal(value, trained[name])
    html = render_explanation(predictor, [Subject(title="one", content=content, true={})])
    kept = [re.findall(r'<img src="([^"]*)" alt="Block', part) for part in html.split("<h3>Before training</h3>")]
    assert len(kept[0]) == len(kept[1]) == 4  # two blocks, faces and sound
    assert kept[0] != kept[1]
    assert isinstance(predictor.model, Model)
    assert predictor.model.text is not None
    dense = make_model(replace(predictor.model.settings, kind="fe2e"), predictor.model.text.encoder, {})
    assert untrained_model(replace(predictor, model=dense)) is None

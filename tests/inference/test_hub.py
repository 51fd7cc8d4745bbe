"""Guarantees of models of the Hugging Face Hub: an id predicts as a folder does; what fails has one clear sentence."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import COMMIT, hub
from huggingface_hub import constants

import mesm_train
from mesm_data.errors import InputError
from mesm_train.inference.hub_model import export_hub_folder

NAME = "someone/a-model"


@pytest.fixture(scope="module")
def address(fe2e_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    folder = tmp_path_factory.mktemp("on-the-hub") / "model"
    export_hub_folder(mesm_train.load(fe2e_run, device="cpu"), fe2e_run, folder)
    (folder / "training.log").write_text("not needed")
    with hub(NAME, folder) as served:
        yield served


def test_a_model_of_the_hub_predicts_by_its_id_and_again_without_a_network(
    address: tuple[str, list[str]], fe2e_run: Path, dialog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, requests = address
    code = "from mesm_cli.train import main; main()"
    command = [sys.executable, "-c", code, "predict", NAME, str(dialog), "--end", "1", "--text", "no", "--json"]
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    here = mesm_train.load(fe2e_run, device="cpu").predict(dialog, end=1, text="no")
    assert json.loads(done.stdout)["logits"] == pytest.approx(here.logits, abs=1e-6)
    assert f"GET /{NAME}/resolve/{COMMIT}/model.safetensors" in requests
    assert not any("training.log" in request for request in requests)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    requests.clear()
    assert mesm_train.load(NAME, device="cpu").predict(dialog, end=1, text="no").logits == here.logits
    assert not requests


@pytest.mark.parametrize(
    ("name", "is_offline", "is_served", "reason"),
    [
        ("someone/other", False, True, "there is no such model, or it is private"),
        ("someone/other", True, True, r"it is not in the cache .*, and HF_HUB_OFFLINE is set$"),
        (NAME, False, False, r"it is not in the cache .*, and http://127\.0\.0\.1:1 does not answer$"),
    ],
)
def test_what_cannot_be_fetched_is_refused_in_one_sentence(
    name: str, is_offline: bool, is_served: bool, reason: str, address: tuple[str, list[str]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(constants, "ENDPOINT", address[0] if is_served else "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
    with pytest.raises(InputError, match=reason) as refused:
        mesm_train.load(name)
    assert str(refused.value).startswith(f"'{name}' is no folder with a run")
    assert "\n" not in str(refused.value)

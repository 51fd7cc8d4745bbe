"""Guarantees of models of the Hugging Face Hub: an id predicts as a folder does; what fails has one clear sentence."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import COMMIT, hub
from huggingface_hub import constants
from mesm_cli.train import app
from typer.testing import CliRunner

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


@pytest.fixture
def point_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """point_to(address): what HF_ENDPOINT=address does, with an empty cache; `is_offline`: HF_HUB_OFFLINE=1."""

    def point(endpoint: str, *, is_offline: bool = False) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)

    return point


def test_a_model_of_the_hub_predicts_by_its_id_and_again_without_a_network(
    address: tuple[str, list[str]], point_to: Callable[..., None], fe2e_run: Path, dialog: Path
) -> None:
    endpoint, requests = address
    point_to(endpoint)
    predicted = CliRunner().invoke(app, ["predict", NAME, str(dialog), "--end", "1", "--text", "no", "--json"])
    assert predicted.exit_code == 0, predicted.exception
    here = mesm_train.load(fe2e_run, device="cpu").predict(dialog, end=1, text="no")
    assert json.loads(predicted.stdout)["logits"] == pytest.approx(here.logits, abs=1e-6)
    assert f"GET /{NAME}/resolve/{COMMIT}/model.safetensors" in requests
    assert not any("training.log" in request for request in requests)
    requests.clear()
    point_to(endpoint, is_offline=True)
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
    name: str,
    is_offline: bool,
    is_served: bool,
    reason: str,
    address: tuple[str, list[str]],
    point_to: Callable[..., None],
) -> None:
    point_to(address[0] if is_served else "http://127.0.0.1:1", is_offline=is_offline)
    with pytest.raises(InputError, match=reason) as refused:
        mesm_train.load(name)
    assert str(refused.value).startswith(f"'{name}' is no folder with a run")
    assert "\n" not in str(refused.value)

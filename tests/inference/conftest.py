"""Small trained runs on the synthetic IEMOCAP, made once a session."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.recipe import Recipe
from mesm_data.pipeline.build import build_dataset
from mesm_train.config.settings import load_recipe
from mesm_train.runs.run import start_run
from mesm_train.training.progress import NullLogger

Once = Callable[[str, Callable[[Path], None]], Path]
SETTINGS = """
name: small
labels: six
model: {channels: [4, 8], stem_blocks: 0, hidden: 16, dim: 8, layers: 1, heads: 2, feedforward: 16}
text: {encoder: tiny, tiny: {vocabulary: 60, embedding: 8, width: 8, layers: 1, heads: 2, feedforward: 8}}
optim: {lr: 1e-3, batch: 4, epochs: 1}
report: {media: false}
"""


@pytest.fixture(scope="session")
def settings_file(once: Once, dataset: Path, six_split: Path) -> Path:
    """Settings of a small run."""
    text = f"{SETTINGS}\nsplit: {six_split}\ndata: {dataset}\n"
    return once("inference-small.yaml", lambda path: path.write_text(text) and None)


@pytest.fixture(scope="session")
def fe2e_run(once: Once, settings_file: Path) -> Path:
    """A run of FE2E with text, faces and sound: one epoch."""
    return once("inference-fe2e", lambda path: train(settings_file, path, "fe2e"))


def train(settings: Path, run: Path, kind: str, *sets: str) -> None:
    config = load_recipe(str(settings), [f"model.kind={kind}", *sets])
    assert start_run(config, run, resume=False, stop=lambda: False, logger=NullLogger())


@pytest.fixture(scope="session")
def mosei_dataset(once: Once, mosei_corpus: Path) -> Path:
    """The synthetic CMU-MOSEI, built."""
    recipe = Recipe(corpus="mosei", clips=False)
    return once(
        "inference-mosei",
        lambda path: build_dataset(scan_corpus("mosei", mosei_corpus), path, recipe, workers=2) and None,
    )


@pytest.fixture(scope="session")
def dialog(corpus: Path) -> Path:
    """The video of a synthetic dialog: half a minute, two people side by side, their sound on two channels."""
    return corpus / "Session1/dialog/avi/DivX/Ses01F_impro04.avi"

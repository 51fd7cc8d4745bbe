"""Trains the small runs of these tests."""

from pathlib import Path

from mesm_train.config.recipe_files import load_recipe
from mesm_train.runs.run import start_run
from mesm_train.training.progress import NullLogger


def train(settings: Path, run: Path, kind: str, *sets: str) -> None:
    """A run of a model kind by the settings of a file and further `sets`."""
    config = load_recipe(str(settings), [f"model.kind={kind}", *sets])
    assert start_run(config, run, resume=False, stop=lambda: False, logger=NullLogger())

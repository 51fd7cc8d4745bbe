"""A dataset of one's own for each module that writes features beside its shards."""

import shutil
from pathlib import Path

import pytest

from mesm_data.dataset.reader import Dataset


@pytest.fixture(scope="module")
def own(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A copy of the synthetic dataset."""
    path = tmp_path_factory.mktemp("own") / "dataset"
    shutil.copytree(dataset, path)
    return Dataset(path)

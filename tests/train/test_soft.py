"""A soft view is trained on shares of votes and evaluated on the majority."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from neutral import neutral_calibration, neutral_statistics
from torch.nn import functional

from mesm_data.dataset.reader import Dataset
from mesm_train.config.recipe_files import load_recipe
from mesm_train.training.evaluation import predict, score
from mesm_train.training.losses import target_statistics
from mesm_train.training.prediction_table import write_predictions
from mesm_train.training.setup import prepare_run

SMALL = """
name: small
labels: soft
model: {modalities: [v, a], channels: [4, 8], stem_blocks: 0, hidden: 16, dim: 8, layers: 1, heads: 2, feedforward: 16}
optim: {pos_weight: true}
"""


def test_training_uses_the_shares_and_scores_use_the_majority(dataset: Path, tmp_path: Path) -> None:
    keys = Dataset(dataset).keys
    parts = {"train": keys[::2], "valid": keys[1::4], "test": keys[3::4]}
    (tmp_path / "split.yaml").write_text(yaml.safe_dump(parts))
    (tmp_path / "small.yaml").write_text(f"{SMALL}split: {tmp_path / 'split.yaml'}\ndata: {dataset}\n")
    setup = prepare_run(load_recipe(str(tmp_path / "small.yaml")), tmp_path / "run")
    assert [len(setup.keys[part]) for part in parts] == [len(some) for some in parts.values()]  # xxx is in it too
    shares = np.stack([setup.loader.targets[key] for key in setup.keys["train"]])
    assert ((shares > 0) & (shares < 1)).any()
    positives = shares.sum(axis=0, dtype=np.float64)
    if (positives > 0).all():
        expected = (len(shares) - positives) / positives
        assert target_statistics(setup).pos_weight.numpy() == pytest.approx(expected, rel=1e-6)
    answers = predict(setup, "test", neutral_statistics(10))
    targets = np.stack([setup.loader.targets[key] for key in answers.keys])
    assert (answers.targets == targets).all()
    assert (answers.labels == (targets > 0.5)).all()
    logits = torch.from_numpy(answers.logits)
    loss = functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(targets))
    assert answers.loss == pytest.approx(float(loss))
    scores = score(setup.heads, answers, neutral_calibration(10))
    assert {name: class_scores["support"] for name, class_scores in scores["classes"].items()} == dict(
        zip(setup.view.classes, (targets > 0.5).sum(axis=0), strict=True)
    )
    assert "multiclass" not in scores
    write_predictions(tmp_path / "predictions.parquet", setup.heads, answers, "mine")
    table = pq.read_table(tmp_path / "predictions.parquet").to_pydict()
    for index, name in enumerate(setup.view.classes):
        assert table[f"share_{name}"] == targets[:, index].tolist()
        assert table[f"label_{name}"] == answers.labels[:, index].tolist()

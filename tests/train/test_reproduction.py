"""Scores that are computed again elsewhere may differ by rounding, which is measured on the logits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from neutral import neutral_calibration

from mesm_data.errors import MesmError
from mesm_data.schema.built_in import built_in_schema
from mesm_train.data.labels import resolve_heads
from mesm_train.runs.reproduction import deviation
from mesm_train.training.evaluation import Predictions, score
from mesm_train.training.prediction_table import write_predictions

HEADS = resolve_heads(built_in_schema("iemocap"), "four")
CLASSES = len(HEADS.outputs)
CALIBRATION = neutral_calibration(CLASSES, pos_weight=2.0)


@pytest.fixture
def recorded() -> Predictions:
    """Twenty utterances; the first logit lies at its threshold."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20, CLASSES)).astype(np.float32)
    logits[0, 0] = 0.0
    labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, 20)]
    keys = tuple(f"u{number:02}" for number in range(20))
    return Predictions(keys=keys, logits=logits, targets=labels, loss=0.0)


def test_rounding_is_distinguished_from_other_predictions(recorded: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "predictions-test.parquet"
    write_predictions(path, HEADS, recorded, "session-5")
    scores = score(HEADS, recorded, CALIBRATION)
    rounded = replace(recorded, logits=recorded.logits - np.float32(1e-4))
    assert score(HEADS, rounded, CALIBRATION) != scores, "one answer changes"
    far = deviation(path, HEADS, rounded, CALIBRATION, scores)
    assert far is not None
    assert far.logits == pytest.approx(1e-4, rel=1e-2)
    assert (far.decisions, far.count) == (1, 20 * CLASSES)
    assert far.within_tolerance
    assert str(far) == f"logits differ by up to 0.0001 (tolerance 0.01), 1 of {20 * CLASSES} decisions change"
    other = deviation(path, HEADS, replace(recorded, logits=recorded.logits + 1), CALIBRATION, scores)
    assert other is not None
    assert not other.within_tolerance


def test_recorded_scores_must_be_those_of_the_recorded_logits(recorded: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "predictions-test.parquet"
    write_predictions(path, HEADS, recorded, "session-5")
    scores = score(HEADS, recorded, CALIBRATION)
    changed = {**scores, "mean": {**scores["mean"], "f1": 0.99}}
    assert deviation(path, HEADS, recorded, CALIBRATION, changed) is None
    others = replace(recorded, keys=tuple(f"v{number}" for number in range(20)))
    assert deviation(path, HEADS, others, CALIBRATION, scores) is None
    path.write_bytes(b"PAR1")
    with pytest.raises(MesmError, match=r"predictions-test.parquet is not a readable Parquet file"):
        deviation(path, HEADS, recorded, CALIBRATION, scores)

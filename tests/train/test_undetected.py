"""Crops without a detected face are kept as published, or skipped on request."""

from pathlib import Path

import numpy as np
import pytest
from small_runs import small_recipe

from mesm_data.dataset.reader import Dataset
from mesm_train.config.recipe_files import load_recipe
from mesm_train.data.input_spec import input_spec
from mesm_train.training.setup import prepare_run


@pytest.mark.parametrize(("choice", "column"), [("keep", "n_faces"), ("skip", "n_detected")])
def test_a_batch_has_all_crops_or_those_with_a_detected_face(
    choice: str, column: str, dataset: Path, tmp_path: Path
) -> None:
    sets = [f"loader.undetected={choice}", "model.modalities=[v]", "labels=dimensions"]
    setup = prepare_run(load_recipe(str(small_recipe(tmp_path, dataset)), sets), tmp_path / "run")
    rows = Dataset(dataset).rows
    keys = sorted(key for keys in setup.keys.values() for key in keys)
    assert sum(rows[key]["n_detected"] for key in keys) < sum(rows[key]["n_faces"] for key in keys)
    batch = setup.loader.batch(keys)
    assert batch.face_counts.tolist() == [rows[key][column] for key in keys]
    assert len(batch.faces) == sum(batch.face_counts.tolist())
    detected = [np.array(setup.dataset[key].record["faces"]["detected"], bool) for key in keys]
    crops = [setup.dataset[key].faces for key in keys]
    expected = [faces[is_face] if choice == "skip" else faces for faces, is_face in zip(crops, detected, strict=True)]
    assert (batch.faces.numpy() == np.concatenate(expected)).all()


@pytest.mark.parametrize(("choice", "missing"), [("keep", 0), ("skip", 1)])
def test_a_model_knows_utterances_without_faces_if_all_crops_of_one_were_skipped(
    choice: str, missing: int, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Dataset(dataset)
    keys = [key for key, row in data.rows.items() if row["n_detected"] and row["n_samples"] and row["txt_size"]]
    counts = {name: data.rows.int_column(name).copy() for name in ("txt_size", "n_faces", "n_samples", "n_detected")}
    counts["n_detected"][data.rows.row_number(keys[0])] = 0  # no frame with a detected face
    monkeypatch.setattr(type(data.rows), "int_column", lambda _, name: counts[name])
    specification = input_spec(data, [], keys, choice)
    assert specification.train == {"utterances": len(keys), "missing": {"t": 0, "v": missing, "a": 0}}
    assert specification.knows_without("v") == bool(missing)

"""An exported folder against the model that it comes from."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mesm_train
from mesm_data.dataset.reader import Dataset
from mesm_data.media.wav import encode_wav

REPOSITORY = Path(__file__).parents[2]


def check_onnx(model: mesm_train.Predictor, dataset: Path, folder: Path, tolerance: float) -> None:
    """onnxruntime and the example, which knows neither mesm nor torch, against the model on samples of their shards."""
    import onnxruntime

    opened = Dataset(dataset)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    for key in opened.keys[:8]:
        batch = mesm_train.collate([opened[key]], tokenizer=model.tokenizer)
        arrays = {"tokens": batch.tokens, "faces": batch.faces, "samples": batch.samples}
        [logits] = session.run(["logits"], {name: array.numpy() for name, array in arrays.items()})
        with torch.no_grad():
            assert np.abs(logits - model.model(batch)[0].numpy()).max() < tolerance
    sample = opened[opened.keys[0]]
    np.save(folder / "faces.npy", sample.faces)
    (folder / "sound.wav").write_bytes(encode_wav(sample.samples))
    hide = "import runpy, sys; sys.modules.update(mesm_train=None, mesm_data=None, torch=None); sys.argv = sys.argv[1:]"
    program = f"{hide}; runpy.run_path(sys.argv[0])"
    arguments = [REPOSITORY / "examples/run_onnx.py", folder, folder / "faces.npy", folder / "sound.wav", sample.text]
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [expected] = model.predict_samples([sample])
    lines = {line[2:14].strip(): (line[0] == "*", float(line[14:])) for line in done.stdout.splitlines()}
    assert lines == {
        expected.meaning(name): (name in expected.labels, pytest.approx(value, abs=1e-3))
        for name, value in expected.values.items()
    }

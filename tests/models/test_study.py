"""mesm-train flops and sweep, as a user calls them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mesm_data.dataset.reader import Dataset
from mesm_train.config.model_settings import ModelSettings, SparseSettings
from mesm_train.models.flops import fresh_macs

PROGRAM = "from mesm_cli.train import main; main()"
SMALL = """
name: small
labels: six
model: {kind: mesm, channels: [4, 8, 8], stem_blocks: 0, hidden: 16, dim: 8, layers: 1, heads: 2, feedforward: 16}
text: {encoder: tiny, tiny: {vocabulary: 60, embedding: 8, width: 8, layers: 1, heads: 2, feedforward: 8}}
optim: {lr: 1e-3, batch: 8, epochs: 1}
"""


def call(*arguments: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """Every part is of a few utterances of each label."""
    rows = Dataset(dataset).rows
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for label in ("ang", "exc", "fru", "hap", "neu", "sad"):
        same = sorted(key for key, row in rows.items() if row["labels"]["emotion"] == label)
        for part, key in zip(parts, same, strict=False):
            parts[part].append(key)
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "split.yaml").write_text(yaml.safe_dump(parts))
    path = folder / "small.yaml"
    path.write_text(f"{SMALL}split: {folder / 'split.yaml'}\ndata: {dataset}\n")
    return path


@pytest.mark.slow
def test_a_sweep_is_a_row_for_each_p_and_is_not_done_twice(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    first = call("sweep", "p", recipe, "--values", ".9,.3", "--out", out)
    lines = (out / "sweep.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["p-0.9", "0.9"], ["p-0.3", "0.3"]]
    dense = [float(line.split(",")[9]) for line in lines[1:]]
    assert 0 < dense[1] < dense[0] < 1
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    before = (out / "p-0.9" / "metrics.jsonl").stat().st_mtime_ns
    again = call("sweep", "p", recipe, "--values", ".9,.3", "--out", out)
    assert again.stdout == first.stdout
    assert (out / "p-0.9" / "metrics.jsonl").stat().st_mtime_ns == before


def test_flops_of_a_recipe_state_input_and_unit() -> None:
    found = json.loads(call("flops", "iemocap-mesm", "--faces", 2, "--pieces", 1, "--json").stdout)
    assert (found["unit"], found["input"]) == ("MAC", {"faces": 2, "pieces": 1, "tokens": 20})
    dense, sparse = (found["models"][kind] for kind in ("fe2e", "mesm"))
    assert round((dense["v.stem"] + dense["v.blocks"]) / 2e6, 1) == 478.2
    assert dense["v.stem"] == sparse["v.stem"]
    assert 0.3 < sparse["v.blocks"] / dense["v.blocks"] < 0.5


def test_fresh_operations_fall_with_p() -> None:
    class Sizes:
        hidden_size = 8

    totals = []
    for p in (1.0, 0.7, 0.3):
        made = ModelSettings(kind="mesm", modalities=("t", "v", "a"), channels=(4, 8), sparse=SparseSettings(p=p))
        encoder = type("Config", (Sizes,), {"num_hidden_layers": 1, "intermediate_size": 8, "model_type": "bert"})
        parts, kept = fresh_macs(made, encoder(), faces=2, pieces=2, tokens=3)
        totals.append(parts["v.blocks"])
        assert all(0 < share <= 1 for shares in kept.values() for share in shares)
    assert totals[0] > totals[1] > totals[2]

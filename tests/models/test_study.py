"""mesm-train flops and sweep, as a user calls them."""

import csv
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from commands import run_command

from mesm_train.analysis import sweep
from mesm_train.config.model_settings import ModelSettings, SparseSettings
from mesm_train.config.settings import OptimConfig, RunConfig
from mesm_train.data.collate import collate
from mesm_train.models.fe2e_mesm import Model
from mesm_train.models.flops import fresh_macs


def call(*arguments: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = run_command("mesm-train", *arguments)
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.slow
def test_a_sweep_compares_dense_and_sparse_models_and_skips_finished_runs(tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    options = ["--values", ".3", "--tile", "1,4", "--width", ".5", "--seeds", "0", "--set", "optim.epochs=1"]
    call("sweep", "p", tiny_recipe, *options, "--out", out)
    rows = list(csv.DictReader((out / "sweep.csv").open()))
    names = ["fe2e", "fe2e-width-0.5", "mesm-p-0.3-tile-1", "mesm-p-0.3-tile-4"]
    assert [row["variant"] for row in rows] == names
    operations = [float(row["operations"]) for row in rows]
    assert operations[0] == 1
    assert 0 < operations[1] < 0.6  # about the square of the width
    assert all(0 < share < 1 for share in operations[2:])
    assert all(float(row["forward"]) > 0 and float(row["f + b"]) > 0 for row in rows)
    assert len((out / "runs.csv").read_text().splitlines()) == 1 + len(names)
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    run = out / "mesm-p-0.3-tile-1" / "seed-0"
    before = (run / "metrics.jsonl").stat().st_mtime_ns
    call("sweep", "p", tiny_recipe, *options, "--out", out)
    assert (run / "metrics.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize("option", ["--values", "--tile", "--width", "--seeds"])
def test_a_sweep_over_values_that_are_not_numbers_is_refused(option: str, tmp_path: Path) -> None:
    wrong = call("sweep", "p", "demo-mesm", option, "1,x", "--out", tmp_path, code=2)
    assert f"{option} '1,x': expected numbers with commas" in wrong.stderr


def test_a_sweep_over_a_view_of_numbers_is_refused_before_anything_is_trained(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    wrong = call("sweep", "p", tiny_recipe, "--set", "labels=dimensions", "--out", tmp_path / "sweep", code=2)
    assert "label view 'dimensions' has numbers: choose classes" in wrong.stderr
    assert not (tmp_path / "sweep").exists()


def test_a_summary_is_the_mean_and_deviation_over_seeds_and_costs_relative_to_the_first_variant() -> None:
    shared = {"kind": "mesm", "tile": 1, "kept": {"v": 0.5}}
    rows = [
        sweep.Row(variant="a", seed=seed, f1=0.5, auc=auc, macs=macs, **shared)  # type: ignore[arg-type]
        for seed, (auc, macs) in enumerate([(0.8, 100), (0.9, 300)])
    ] + [sweep.Row(variant="b", seed=0, f1=0.4, auc=0.7, macs=50, **shared)]  # type: ignore[arg-type]
    seconds = {"a": sweep.Seconds(forward=1, both=4), "b": sweep.Seconds(forward=0.5, both=3)}
    first, second = sweep.summarise(rows, seconds)
    assert first.auc == (pytest.approx(0.85), pytest.approx(0.1 / 2**0.5))
    assert (first.operations, first.forward, first.both) == (1, 1, 1)
    assert (second.operations, second.forward, second.both) == (0.25, 0.5, 0.75)
    assert second.cells()[:4] == ("b", "1", "0.400", "0.700")


@pytest.mark.parametrize(("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_seconds_of_a_sweep_are_those_of_the_precision_of_its_training(
    precision: Literal["fp32", "bf16"], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(ModelSettings(modalities=("v", "a"), channels=(4, 8), hidden=8, dim=4, layers=1, heads=2))
    dtypes = []
    for stack in model.stacks.values():
        stack.head[-1].register_forward_hook(lambda *parts: dtypes.append(parts[-1].dtype))
    faces, samples = np.zeros((2, 48, 48, 3), np.uint8), np.zeros(8000, np.int16)
    batch = collate([{"__key__": "a", "faces.npy": faces, "wav": samples}])
    setup = SimpleNamespace(
        model=model, keys={"test": ("a",)}, loader=SimpleNamespace(batch=lambda keys: batch),
        device=torch.device("cpu"), config=RunConfig(name="a", optim=OptimConfig(precision=precision)),
    )  # fmt: skip
    monkeypatch.setattr(sweep, "load_run", lambda run: setup)
    seconds = sweep.measure({"a": Path("a")}, rounds=1)["a"]
    assert 0 < seconds.forward < seconds.both
    assert dtypes == [expected] * 4  # two stacks, a round to warm up and one that counts


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [
        ((64, 128, 256, 512), 0.7, (48, 96, 176, 352)), ((64, 128), 0.1, (16, 16)),
        ((8, 16, 32, 64), 0.7, (6, 11, 22, 45)), ((4, 8), 0.1, (1, 1)),
    ],
)  # fmt: skip
def test_a_wide_network_is_narrowed_to_whole_vectors(
    channels: tuple[int, ...], width: float, expected: tuple[int, ...]
) -> None:
    assert sweep.narrow(channels, width) == expected


def test_flops_of_a_recipe_state_input_and_unit() -> None:
    flops = json.loads(call("flops", "iemocap-mesm", "--faces", 2, "--pieces", 1, "--json").stdout)
    assert (flops["unit"], flops["input"]) == ("MAC", {"faces": 2, "pieces": 1, "tokens": 20})
    dense, sparse = (flops["models"][kind] for kind in ("fe2e", "mesm"))
    assert round((dense["v.stem"] + dense["v.blocks"]) / 2e6, 1) == 478.2
    assert dense["v.stem"] == sparse["v.stem"]
    assert 0.3 < sparse["v.blocks"] / dense["v.blocks"] < 0.5


def test_fresh_operations_fall_with_p() -> None:
    class Sizes:
        hidden_size = 8

    totals = []
    for p in (1.0, 0.7, 0.3):
        settings = ModelSettings(kind="mesm", modalities=("t", "v", "a"), channels=(4, 8), sparse=SparseSettings(p=p))
        encoder = type("Config", (Sizes,), {"num_hidden_layers": 1, "intermediate_size": 8, "model_type": "bert"})
        parts, kept = fresh_macs(settings, encoder(), faces=2, pieces=2, tokens=3)
        totals.append(parts["v.blocks"])
        assert all(0 < share <= 1 for shares in kept.values() for share in shares)
    assert totals[0] > totals[1] > totals[2]

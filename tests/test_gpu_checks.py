"""benchmarks/gpu: the script that checks and measures on a graphics card, here on a CPU."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks/gpu/run.py"


def checks(kit: Path, out: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the report. The minutes are for a busy machine."""
    command = [sys.executable, SCRIPT, "--device", "cpu", "--quick", "--minutes", "60", "--kit", kit, "--out", out]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert (out / "report.md").read_text() in done.stdout, done.stderr
    return done.returncode, json.loads((out / "report.json").read_text())


def test_a_part_that_fails_is_recorded_and_does_not_stop_the_rest(tmp_path: Path) -> None:
    """The kit is missing, so nothing can be trained."""
    code, report = checks(tmp_path / "kit", tmp_path / "out", "--only", "environment", "resume", "ranks")
    parts = report["parts"]
    assert code == 1
    assert {name: part["status"] for name, part in parts.items()} == {
        "environment": "ok", "resume": "failed", "ranks": "failed",
    }  # fmt: skip
    assert parts["environment"]["torch"]
    assert "split.yaml" in parts["resume"]["error"]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_tests_that_were_skipped_for_want_of_a_card_are_not_ok(tmp_path: Path) -> None:
    code, report = checks(tmp_path / "kit", tmp_path / "out", "--device", "cuda", "--only", "oracle")
    assert code == 1
    assert report["parts"]["oracle"]["status"] == "failed"
    assert "skipped" in report["parts"]["oracle"]["summary"]


def test_wheels_for_another_python_are_said_to_be_that_before_any_part_runs(tmp_path: Path) -> None:
    wheels = tmp_path / "kit/wheels"
    wheels.mkdir(parents=True)
    (wheels / "not_here-1.0-cp27-cp27m-manylinux_2_28_x86_64.whl").touch()
    command = [sys.executable, SCRIPT, "--kit", tmp_path / "kit", "--out", tmp_path / "out", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "not_here: not installed here, and not to be had" in done.stderr
    assert done.stderr.endswith(f"--python {sys.version_info.major}.{sys.version_info.minor}\n")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_compiled_modules_compute_what_they_compute_otherwise(tmp_path: Path) -> None:
    code, report = checks(tmp_path / "kit", tmp_path / "out", "--only", "compiled")
    assert code == 0, report
    assert [row["module"] for row in report["parts"]["compiled"]["rows"]] == ["text encoder", "sequence branch"]


@pytest.mark.slow  # minutes on two cores
def test_all_parts_pass_on_a_cpu(tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU a run that was killed is the same bits as one that was not."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import prepare

    from mesm_data.dataset.reader import Dataset

    kit = tmp_path / "kit"
    kit.mkdir()
    (kit / "shards").symlink_to(dataset)
    prepare.write_split(Dataset(dataset), kit / "split.yaml")
    code, report = checks(kit, tmp_path / "out")
    assert {part["status"] for part in report["parts"].values()} == {"ok"}, report
    assert code == 0
    assert report["parts"]["resume"]["largest_gap"] == 0
    assert {row["variant"] for row in report["parts"]["streams"]["rows"]} == {"dense", "fe2e, auto"}

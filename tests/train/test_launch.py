"""What starts the ranks of `--nproc-per-node`."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mesm_cli.console import Stopped
from mesm_cli.run import StopFlag
from small_runs import small_recipe

from mesm_data.errors import MesmError
from mesm_train.training.connection import connect_ranks
from mesm_train.training.sessions import read_sessions

LAUNCHER = """
import os, sys
from mesm_train.training.launch import launch_ranks
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
sys.exit(launch_ranks(1, [sys.executable, "-c", sys.argv[1]]))
"""
RANK = "import os, signal; print(os.environ['OMP_NUM_THREADS'], flush=True); os.kill(os.getpid(), signal.SIGKILL)"


def test_ranks_divide_the_cores_of_the_job_and_one_that_was_killed_is_named() -> None:
    """A batch system gives a job some of the machine's cores."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, RANK], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "1\n")
    assert done.stderr == "error: rank 0 was ended by SIGKILL: the kernel sends it if memory runs out\n"


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_a_signal_that_arrives_a_second_time_through_torchrun_still_lets_a_rank_save(
    ranks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise Stopped

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", ranks)
    try:
        stop = StopFlag()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_port_that_is_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for name, value in {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))
        with (
            pytest.raises(MesmError, match=f"rank 0 cannot meet the others at 127.0.0.1:{port} .*already in use"),
            connect_ranks("cpu", 5),
        ):
            pass


@pytest.mark.slow  # 20 s
def test_a_signal_to_a_finished_run_of_several_ranks_is_no_failure(dataset: Path, tmp_path: Path) -> None:
    """It comes while the report is written, or later: then there is nothing that it could stop."""
    recipe, program = small_recipe(tmp_path, dataset), "from mesm_cli.train import main; main()"
    options = ["run", str(recipe), "--nproc-per-node", "2", "--set", "optim.epochs=1", "--out", str(tmp_path / "run")]
    command = [sys.executable, "-c", program, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("test ("):
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    assert (tmp_path / "run" / "report.html").exists()


SCHEDULE = """
import sys
from pathlib import Path
from mesm_train.analysis.schedule import run_all
from mesm_train.config.recipe_files import load_recipe
from mesm_train.training.progress import NullLogger
config = load_recipe(sys.argv[1], ["optim.epochs=100000", "optim.patience=0"])
run_all({"one": config}, Path(sys.argv[2]), jobs=2, stop=lambda: False, logger=NullLogger())
"""


def test_the_runs_of_a_killed_cross_validation_save_and_end(dataset: Path, tmp_path: Path) -> None:
    """Or the same command would meet them in its folders for hours."""
    recipe, run = small_recipe(tmp_path, dataset), tmp_path / "one"
    command = [sys.executable, "-c", SCHEDULE, str(recipe), str(tmp_path)]
    deadline = time.monotonic() + 120
    with subprocess.Popen(command) as process:
        while not (run / "checkpoints" / "last.json").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.kill()
    while not (sessions := read_sessions(run)) or sessions[-1].outcome is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert sessions[-1].outcome == "stopped"

"""A run that loses ranks resumes exactly: after kills, automatically under torchrun, and without a network."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from interrupted import ENVIRONMENT, interrupt
from rank_workers import journal, ranks, small_recipe, start, trained

from mesm_data.storage.files import sha256_file
from mesm_data.storage.json_files import read_json
from mesm_train.training.sessions import read_sessions

PROGRAM = [sys.executable, "-c", "from mesm_cli.train import main; main()"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> str:
    return small_recipe(tmp_path_factory.mktemp("kills"), dataset)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, recipe: str) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    ranks(2, trained, recipe, [], folder / "run", None, folder=folder / "f", timeout=300)
    return folder / "run"


def weights(run: Path) -> str:
    step = read_json(run / "checkpoints" / "last.json")["step"]
    return sha256_file(run / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


@pytest.mark.slow  # 14 s, to import torch in three processes
def test_an_invalid_setting_is_reported_once_by_all_ranks(recipe: str, tmp_path: Path) -> None:
    command = [*PROGRAM, "run", recipe, "--out", str(tmp_path / "run"), "--nproc-per-node", "2", "--set", "labels=sixx"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: ") == 1
    assert "did you mean six" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_twenty_five_kills_of_random_ranks_do_not_change_the_result(
    recipe: str, unbroken: Path, tmp_path: Path
) -> None:
    """SIGKILL at a random moment to one of two ranks; checkpoints after every update; then both start again."""
    moments, kills, runs = random.Random(5), 0, 0
    while kills < 25:
        run, ended = tmp_path / str(runs), False
        while not ended:
            processes = start(
                2, trained, recipe, ["checkpoint_seconds=0"], run, None, folder=tmp_path / f"k{kills}-{runs}"
            )
            victim = processes[moments.randrange(2)]
            victim.join(moments.uniform(0.5, 6))
            if victim.is_alive():
                victim.kill()
                kills += 1
            for process in processes:
                process.join(120)
                assert process.exitcode is not None, "a rank hangs"
            ended = (run / "predictions-test.parquet").exists() and all(p.exitcode == 0 for p in processes)
        assert journal(run) == journal(unbroken)
        assert weights(run) == weights(unbroken)
        runs += 1


def until(true: Callable[[], bool], seconds: float = 300) -> None:
    """Wait for other processes to make something true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def workers(agent: int) -> list[int]:
    """The processes that a torchrun agent has started."""
    process_ids = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        # 4242 (python) S 4200 ...
        if int(text.rpartition(")")[2].split()[1]) == agent and "python" in text:
            process_ids.append(int(path.parent.name))
    return process_ids


@pytest.mark.slow
def test_under_torchrun_a_run_resumes_automatically_after_kills(recipe: str, unbroken: Path, tmp_path: Path) -> None:
    """Three random ranks are killed on the way; nobody starts anything again."""
    run, moments = tmp_path / "run", random.Random(7)
    command = [
        *TORCHRUN, "--standalone", "--nproc-per-node", "2", "--max-restarts", "5", "-m", "mesm_cli.train",
        "run", recipe, "--out", str(run), "--set", "checkpoint_seconds=0", "--log-seconds", "0",
    ]  # fmt: skip
    agent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert agent.stderr is not None
    killed, seen = 0, []
    for line in agent.stderr:
        seen.append(line)
        if line.startswith("epoch") and " step " in line and killed < 3 and moments.random() < 0.8:
            os.kill(moments.choice(workers(agent.pid)), signal.SIGKILL)
            killed += 1
    assert agent.wait(300) == 0, "".join(seen)
    assert killed == 3
    assert journal(run) == journal(unbroken)
    assert weights(run) == weights(unbroken)


KILLED_ONCE = """
import os, signal
from mesm_train.training.connection import connect_ranks

with connect_ranks("cpu", 60) as ranks:
    ranks.gather([0.0])  # all are connected
    if ranks.rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    print("sum", ranks.gather([1.0]).sum(), "after restart", os.environ["TORCHELASTIC_RESTART_COUNT"])
"""


@pytest.mark.slow
def test_torchrun_starts_ranks_again_on_two_machines_whose_restarts_it_may_count_differently(tmp_path: Path) -> None:
    """Two agents of torchrun (torch 2.13), as docs/distributed.md starts them; a rank of the second is killed."""
    program = tmp_path / "killed_once.py"
    program.write_text(KILLED_ONCE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {**ENVIRONMENT, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "GLOO_SOCKET_IFNAME": "lo"}
    agents = [
        subprocess.Popen(
            [
                *TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "2", "--rdzv-backend", "c10d",
                "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "x", "--rdzv-conf", f"is_host={number == 0}",
                "--local-addr", "127.0.0.1", str(program),
            ],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=own,
        )
        for number in (0, 1)
    ]  # fmt: skip
    output = [agent.communicate(timeout=300)[0].strip() for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0]
    # The rank that lost the killed one ends by itself, which its agent counts, unless the agent has ended it before.
    first, second = "sum 2.0 after restart 0", "sum 2.0 after restart 1"
    assert sorted(output) in ([first, second], [second, second])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_command_saves_a_checkpoint_and_stops_all_ranks(
    recipe: str, unbroken: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    command = [*PROGRAM, "run", recipe, "--out", str(run), "--nproc-per-node", "2", "--resume", "--log-seconds", "0"]
    assert "stopping after this step" in interrupt(command, after=" step 1/", number=number)
    assert (run / "checkpoints" / "last.json").exists()
    assert "--nproc-per-node 2 " in read_sessions(run)[0].command
    subprocess.run(command, capture_output=True, env=ENVIRONMENT, timeout=300, check=True)
    assert journal(run) == journal(unbroken)
    assert weights(run) == weights(unbroken)


@pytest.mark.slow
def test_ranks_do_not_outlive_the_command_that_started_them(recipe: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [*PROGRAM, "run", recipe, "--out", str(run), "--nproc-per-node", "2", "--log-seconds", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stderr is not None
    while " step 1/" not in process.stderr.readline():
        assert process.poll() is None
    started = workers(process.pid)
    assert len(started) == 2
    process.kill()
    until(lambda: not any(Path(f"/proc/{pid}/stat").exists() for pid in started))
    assert (run / "checkpoints" / "last.json").exists()


@pytest.fixture
def two_machines() -> Iterator[Callable[[str], None]]:
    """Two network namespaces, mesm-0 (10.77.0.1) and mesm-1 (10.77.0.2), and link("down" or "up") between them."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("two machines as network namespaces need root and iproute2")

    def ip(*words: str, check: bool = True) -> int:
        return subprocess.run(["ip", *words], capture_output=True, check=check).returncode

    for name in ("mesm-0", "mesm-1"):
        ip("netns", "del", name, check=False)
        if ip("netns", "add", name, check=False):
            pytest.skip("this user may not make network namespaces")
    if ip("link", "add", "mesm0", "netns", "mesm-0", "type", "veth", "peer", "mesm1", "netns", "mesm-1", check=False):
        pytest.skip("there are no veth links here")
    for number in "01":
        ip("-n", f"mesm-{number}", "addr", "add", f"10.77.0.{int(number) + 1}/24", "dev", f"mesm{number}")
        for device in (f"mesm{number}", "lo"):
            ip("-n", f"mesm-{number}", "link", "set", device, "up")
    yield lambda state: ip("-n", "mesm-0", "link", "set", "mesm0", state) and None
    for name in ("mesm-0", "mesm-1"):
        ip("netns", "del", name)


def machine(number: int, recipe: str, run: Path, output: Path) -> "subprocess.Popen[bytes]":
    """One of two machines with a rank each, started by torchrun; its output goes to the file `output`."""
    command = [
        "ip", "netns", "exec", f"mesm-{number}", *TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "10.77.0.1:29400", "--rdzv-id", "x",
        "--rdzv-conf", f"is_host={number == 0}", "--local-addr", f"10.77.0.{number + 1}",
        "-m", "mesm_cli.train", "run", recipe, "--out", str(run), "--resume",
        "--set", "checkpoint_seconds=0", "--set", "ranks.timeout_seconds=30",
    ]  # fmt: skip
    own = {**ENVIRONMENT, "GLOO_SOCKET_IFNAME": f"mesm{number}"}
    with output.open("wb") as file:
        return subprocess.Popen(command, stderr=file, stdout=file, env=own)


@pytest.mark.slow
def test_a_broken_network_between_two_machines_is_reported_and_the_run_resumes(
    recipe: str, unbroken: Path, tmp_path: Path, two_machines: Callable[[str], None]
) -> None:
    run, journal_file = tmp_path / "run", tmp_path / "run" / "metrics.jsonl"
    output = [tmp_path / "output-0", tmp_path / "output-1"]
    both = [machine(number, recipe, run, output[number]) for number in (0, 1)]
    until(lambda: journal_file.exists() and journal_file.read_bytes().count(b"\n") >= 2)
    two_machines("down")

    def told() -> str:
        return "".join(path.read_text() for path in output)

    until(lambda: all(f"error: rank {rank} of 2 has lost the others" in told() for rank in (0, 1)))
    two_machines("up")  # for torchrun's own agents, which may wait for each other longer than the ranks do
    assert all(process.wait(400) != 0 for process in both)
    assert json.loads((run / "checkpoints" / "last.json").read_text())["step"] >= 1
    two_machines("up")
    both = [machine(number, recipe, run, output[number]) for number in (0, 1)]
    assert [process.wait(400) for process in both] == [0, 0], told()
    assert journal(run) == journal(unbroken)
    assert weights(run) == weights(unbroken)

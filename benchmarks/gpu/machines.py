"""Two ranks on one card as on two machines, over NCCL: their losses, the death of one, and --resume on the other.

NCCL refuses two ranks on one card. With another NCCL_HOSTID each it takes them for ranks on two machines, and connects
them by sockets, as it would in a cluster without a faster network; its documentation says that sharing a card may hang.
On a CPU the same runs over gloo.
"""

import signal
import socket
import subprocess
import time
from pathlib import Path

from options import ROOT, Options, Result, environment, run, set_options, train_command
from training import FEW, THREADS, arguments, first_gap, losses, undisturbed, written_updates

EPOCHS = 6
LIMIT_SECONDS = 20  # ranks.timeout_seconds


def machines(options: Options) -> Result:
    """Two ranks with synchronised batch norm, to the end; the same, of which one is killed and one resumes alone."""
    whole, killed = options.work / "machines", options.work / "machines-killed"
    for rank, process in enumerate(start_ranks(options, whole)):
        if process.wait() != 0:
            raise RuntimeError(f"rank {rank}: exit code {process.returncode}: {log(whole, rank).read_text()[-800:]}")
    two = losses(whole)
    gap = first_gap(undisturbed(options), two)
    nccl = [line for line in log(whole, 0).read_text().splitlines() if line.startswith("NCCL version")]

    ranks = start_ranks(options, killed)
    while not written_updates(killed) > FEW and all(process.poll() is None for process in ranks):
        time.sleep(0.02)
    if ranks[1].poll() is not None:
        raise RuntimeError(f"it ended before it was killed: {log(killed, 1).read_text()[-800:]}")
    ranks[1].send_signal(signal.SIGKILL)
    began, code = time.monotonic(), None
    try:
        code = ranks[0].wait(4 * LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        ranks[0].kill()
    seconds, last = time.monotonic() - began, log(killed, 0).read_text().strip().splitlines()[-1]
    before = written_updates(killed)
    run([*command(options, killed), "--resume"], options, OMP_NUM_THREADS=THREADS)
    resumed = losses(killed)
    passed = {
        "gap": gap < 1e-2,
        "nccl": bool(nccl) == options.device.startswith("cuda"),
        "end": code not in (0, None) and seconds < 2 * LIMIT_SECONDS,
        "resumed": [*resumed] == [*two] and before < len(two),
    }
    return {
        "passed": all(passed.values()), "checks": passed, "nccl": nccl[:1], "updates": len(two), "first_gap": gap,
        "exit_code": code, "seconds_to_exit": seconds, "last_line": last[:300], "updates_at_exit": before,
    }  # fmt: skip


def command(options: Options, out: Path) -> list[str]:
    """Small FE2E, with a checkpoint after each update."""
    sets = {
        "optim.epochs": EPOCHS, "ranks.sync_batch_norm": "true", "ranks.timeout_seconds": LIMIT_SECONDS,
        "checkpoint_seconds": 0,
    }  # fmt: skip
    return train_command(*arguments(options, "fe2e", out, options.device), *set_options(sets))


def start_ranks(options: Options, out: Path) -> list[subprocess.Popen[bytes]]:
    """Two ranks, each with the environment that a launcher gives to the only rank of its machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    started = []
    for rank in (0, 1):
        variables = {
            "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NCCL_HOSTID": f"machine {rank}", "NCCL_DEBUG": "VERSION",
            "NCCL_SOCKET_IFNAME": "lo", "NCCL_NET": "Socket", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": THREADS,
        }  # fmt: skip
        with log(out, rank).open("wb") as file:
            process = subprocess.Popen(
                command(options, out), env=environment(options.kit, **variables), cwd=ROOT, stdout=file, stderr=file
            )
        started.append(process)
    return started


def log(out: Path, rank: int) -> Path:
    """What a rank writes."""
    return out.with_name(f"{out.name}-{rank}.log")

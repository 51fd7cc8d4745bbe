"""Start the ranks of a run on this machine, without torchrun: one process each, signals passed on, one exit code."""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

RENDEZVOUS = "MESM_RENDEZVOUS"  # the file through which the ranks find each other
GRACE = 60.0  # seconds that the others have to end by themselves after one has failed
LOOPBACK = {"linux": "lo", "darwin": "lo0"}


def launch(count: int, command: Sequence[str]) -> int:
    """Run `command` as `count` ranks until all have ended; the exit code is 0, or that of the first rank that failed.

    The ranks get SIGINT and SIGTERM that this process gets, once each; those that outlive a failed one by a minute are
    ended.
    """
    with tempfile.TemporaryDirectory(prefix="mesm-") as folder:
        environment = {
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)),
            "GLOO_SOCKET_IFNAME": LOOPBACK.get(sys.platform, ""),
            **os.environ,
            "WORLD_SIZE": str(count),
            RENDEZVOUS: str(Path(folder) / "store"),
        }
        ranks: list[subprocess.Popen[bytes]] = []

        def pass_on(number: int, _: object) -> None:
            for process in ranks:
                process.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for rank in range(count):
                own = {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                # In a session of its own a rank does not get the terminal's Ctrl-C beside ours.
                ranks.append(subprocess.Popen(command, env=own, start_new_session=True))
            return _wait(ranks)
        finally:
            for process in ranks:
                process.kill()
            for number, handler in before.items():
                signal.signal(number, handler)


def end_with_launcher() -> None:
    """Where this process is a rank that `launch` started: get SIGTERM when the launcher dies, however (Linux only)."""
    if RENDEZVOUS in os.environ and sys.platform == "linux":
        parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGTERM)


def _wait(ranks: Sequence["subprocess.Popen[bytes]"]) -> int:
    """Wait for all; the exit code of the first that failed (1 for one that was killed)."""
    failed, deadline = 0, float("inf")
    while any(process.poll() is None for process in ranks):
        codes = [process.returncode for process in ranks if process.returncode]
        if codes and not failed:
            failed, deadline = codes[0], time.monotonic() + GRACE
        if time.monotonic() > deadline:
            for process in ranks:
                process.kill()
        time.sleep(0.05)
    failed = failed or next((process.returncode for process in ranks if process.returncode), 0)
    return failed if failed >= 0 else 1

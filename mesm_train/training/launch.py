"""Starts the ranks of a run on this machine: like torchrun, but with one exit code and without its log."""

import ctypes
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from uuid import uuid4

from mesm_data.storage.parallel import available_cpus

STOPPED_EXIT_CODE = 130  # after Ctrl-C or SIGTERM
SHUTDOWN_SECONDS = "60"  # that ranks have to save and end after a signal
ENDS_WITH_PARENT = "MESM_ENDS_WITH_PARENT"  # set for the runs that `analysis.schedule` starts
LOOPBACK = {"linux": "lo", "darwin": "lo0"}


def launch_ranks(count: int, command: Sequence[str]) -> int:
    """Run `command` as `count` ranks until all have ended.

    SIGINT and SIGTERM are forwarded to the ranks. When one rank has failed, the others are ended.

    Returns:
        The exit code: 0, or that of the first rank that failed.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.ERROR)  # of this process only: ranks print their own errors
    for name, value in {
        "OMP_NUM_THREADS": str(max(1, available_cpus() // count)),
        "GLOO_SOCKET_IFNAME": LOOPBACK.get(sys.platform, ""),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": SHUTDOWN_SECONDS,
    }.items():
        os.environ.setdefault(name, value)
    with tempfile.TemporaryDirectory(prefix="mesm-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, command[0])(*command[1:])
        except SignalException:
            return STOPPED_EXIT_CODE
        except ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
            for rank, code in codes.items():
                if code < 0:  # it could not say so itself
                    print(f"error: rank {rank} was ended by {describe_signal(-code)}", file=sys.stderr, flush=True)
            return next((code for code in codes.values() if code > 0), 1)
    return 0


def describe_signal(number: int) -> str:
    """The name of a signal, and what usually sends it."""
    causes: dict[int, str] = {
        signal.SIGKILL: ": the kernel sends it if memory runs out",
        signal.SIGBUS: ": the disk or the server of a file that was being read has failed, or the file was cut",
    }
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return name + causes.get(number, "")


def terminate_with_launcher() -> None:
    """Let the kernel send SIGTERM to this process when torchrun or `run_all`, which started it, ends (Linux)."""
    if os.environ.keys() & {"TORCHELASTIC_RUN_ID", ENDS_WITH_PARENT} and sys.platform == "linux":
        parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGTERM)

"""Start the ranks of a run on this machine: what torchrun does, with one exit code and without its log."""

import ctypes
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from uuid import uuid4

STOPPED = 130  # the exit code after Ctrl-C or SIGTERM
GRACE = "60"  # seconds that ranks have to save and end after a signal
LOOPBACK = {"linux": "lo", "darwin": "lo0"}


def launch(count: int, command: Sequence[str]) -> int:
    """Run `command` as `count` ranks until all have ended; the exit code is 0, or that of the first rank that failed.

    The ranks get SIGINT and SIGTERM that this process gets. When one has failed, the others are ended.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.ERROR)  # ranks write their own errors; of this process only
    for name, value in {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)),
        "GLOO_SOCKET_IFNAME": LOOPBACK.get(sys.platform, ""),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": GRACE,
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
            return STOPPED
        except ChildFailedError as error:
            codes = [failure.exitcode for failure in error.failures.values()]
            return next((code for code in codes if code > 0), 1)  # negative: killed by a signal
    return 0


def end_with_launcher() -> None:
    """Where torchrun or `launch` started this process: get SIGTERM when that one dies, however (Linux only)."""
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGTERM)

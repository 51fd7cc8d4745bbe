"""A command in a process of its own that gets a signal at a certain line of its output."""

import os
import signal
import subprocess
from collections.abc import Sequence

# Runs are compared bit by bit with those of this process: the same number of threads.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def interrupt(command: Sequence[str], *, after: str, number: signal.Signals = signal.SIGTERM) -> str:
    """Start a command, and send it a signal as soon as a line of its stderr contains a text.

    Args:
        command: The program and its arguments.
        after: A part of the line.
        number: The signal.

    Returns:
        What it wrote to stderr after that line. It has ended with exit code 130 and without a traceback.
    """
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=ENVIRONMENT)
    assert process.stderr is not None
    while after not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    return stderr

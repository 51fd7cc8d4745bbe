"""Runs `mesm-data` and `mesm-train` in this process: a process of its own imports torch again, which takes 3 s."""

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module


def run_command(name: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """The exit code and the output of a command, with the errors and signals handled as its entry point does.

    Args:
        name: mesm-data or mesm-train.
        *arguments: Of the command.
    """
    from mesm_cli import console

    app = import_module(f"mesm_cli.{name.removeprefix('mesm-')}").app
    command = [name, *map(str, arguments)]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    argv, environment = sys.argv, dict(os.environ)
    stdout, stderr = io.StringIO(), io.StringIO()
    sys.argv, code = command, 0
    try:
        with redirect_stdout(stdout), redirect_stderr(stderr):
            console.run(app)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environment)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return subprocess.CompletedProcess(command, code, stdout.getvalue(), stderr.getvalue())

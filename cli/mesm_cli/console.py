"""What all commands share: output streams and exit codes.

Data goes to stdout, progress and messages go to stderr. Exit codes: 0 success; 1 completed with a negative result; 2
invalid input, reported before any work starts; 130 interrupted.
"""

import io
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Never

import typer

from mesm_data.errors import MesmError, first_line
from mesm_data.storage.machine_errors import describe_machine_error, translate_os_error
from mesm_data.storage.safe_text import printable, printable_message

LOG_SECONDS = "30"
RESUMES = "run the same command again to resume"


class Stopped(BaseException):
    """Ctrl-C or SIGTERM. Not KeyboardInterrupt, for which Typer prints only "Aborted!".

    Attributes:
        hint: How to resume; None if the command starts from the beginning again.
    """

    def __init__(self, hint: str | None = None) -> None:
        super().__init__(hint)
        self.hint = hint


@contextmanager
def when_stopped(hint: str) -> Iterator[None]:
    """Show `hint` if Ctrl-C or SIGTERM stops the block, or the command that this decorates."""
    try:
        yield
    except Stopped:
        raise Stopped(hint) from None


def new_app(name: str, help_text: str) -> typer.Typer:
    """Create an app with -h, --help, --version and shell completion."""
    app = typer.Typer(
        name=name,
        help=help_text,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
        ] = False,
    ) -> None:
        pass

    return app


def _show_version(is_set: bool) -> None:
    if is_set:
        from importlib.metadata import version

        show(f"mesm {version('mesm')}")
        raise typer.Exit


def say(message: str) -> None:
    """Print a message on stderr."""
    typer.echo(printable_message(message), err=True)


def show(data: object) -> None:
    """Print a line of data on stdout."""
    typer.echo(printable(str(data)))


def run(app: typer.Typer) -> None:
    """Run an app. Errors of the user or the machine become one sentence and an exit code, as do Ctrl-C and SIGTERM."""
    open_standard_streams()
    # Read when numpy is imported. The face detector multiplies small matrices, one file per core: with more threads it
    # takes four times the CPU and saves no time. torch has its own threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    if isinstance(sys.stdout, io.TextIOWrapper):  # like stderr: escape characters that the locale cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    if not sys.stderr.isatty():  # the shortest interval between two lines of tqdm in a log
        os.environ.setdefault("TQDM_MININTERVAL", LOG_SECONDS)
    try:
        app()
    except MesmError as error:
        if not error.reported_elsewhere:
            say(f"error: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        translated = translate_os_error(error)
        say(f"error: {translated}")
        sys.exit(translated.exit_code)
    except MemoryError as error:
        say(f"error: {describe_machine_error(error, Path())}")
        sys.exit(1)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported for every command
            raise
        say(
            f"error: the graphics card has too little memory ({first_line(error)}): train with a smaller optim.batch "
            "and a larger optim.accumulate in another --out, or on the CPU (--set device=cpu; predict: --device cpu)"
        )
        sys.exit(1)
    except Stopped as stopped:
        hint = f"; {stopped.hint}" if stopped.hint else ""
        say(f"stopped: nothing unfinished is kept as finished{hint}")
        sys.exit(130)


def open_standard_streams() -> None:
    """Open /dev/null for each of stdin, stdout and stderr that the caller has closed.

    Otherwise the next file that is opened would get the number of stderr, and the messages of libraries.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (
        stream or os.fdopen(number, "r" if number == 0 else "w", closefd=False)
        for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr))
    )


def _stop(*_: object) -> Never:
    raise Stopped


def table(rows: Mapping[Any, Any], title: str) -> None:
    """Print two aligned columns on stdout."""
    width = max((len(str(name)) for name in rows), default=0)
    show(f"\n{title}")
    for name, value in rows.items():
        show(f"  {name!s:<{width}}  {value}")

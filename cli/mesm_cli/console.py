"""What all commands share: where words go, and which exit code they end with.

Data goes to stdout; progress and messages to stderr. 0 done, 1 the answer is no, 2 the input is wrong, 130 stopped.
"""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Never

import typer

from mesm_data.errors import MesmError
from mesm_data.storage.machine_errors import describe_machine_error, is_resource_error
from mesm_data.storage.safe_text import printable, printable_message

LOG_SECONDS = "30"
RESUMES = "the same command goes on where it stopped"


class Stopped(BaseException):
    """Ctrl-C or SIGTERM. Not KeyboardInterrupt, which Typer would answer with a bare "Aborted!".

    `remedy` says how to resume; without it the command begins anew.
    """

    def __init__(self, remedy: str | None = None) -> None:
        super().__init__(remedy)
        self.remedy = remedy


@contextmanager
def when_stopped(remedy: str) -> Iterator[None]:
    """Say `remedy` if Ctrl-C or SIGTERM stops what is inside. Also a decorator of commands."""
    try:
        yield
    except Stopped:
        raise Stopped(remedy) from None


def new_app(name: str, help_text: str) -> typer.Typer:
    """An app with -h, --help, --version and the installation of shell completion."""
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


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        show(f"mesm {version('mesm')}")
        raise typer.Exit


def say(message: str) -> None:
    """A message for people, on stderr."""
    typer.echo(printable_message(message), err=True)


def show(data: object) -> None:
    """A line of data, on stdout."""
    typer.echo(printable(str(data)))


def run(app: typer.Typer) -> None:
    """Run an app. Errors that the user can act on end as one sentence, Ctrl-C and SIGTERM as a clean stop."""
    open_standard_streams()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr does: a name that this locale cannot show is escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    if not sys.stderr.isatty():  # tqdm, which draws a bar anew at most this often: a log needs few of them
        os.environ.setdefault("TQDM_MININTERVAL", LOG_SECONDS)
    try:
        app()
    except MesmError as error:
        if not error.reported_elsewhere:
            say(f"error: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is None or is_resource_error(error):
            say(f"error: {describe_machine_error(error, Path())}")
            sys.exit(1)
        remedy = "give this user the right to it" if isinstance(error, PermissionError) else "check the path"
        say(f"error: {error.filename}: {error.strerror}: {remedy}, or choose another place")
        sys.exit(2)
    except MemoryError as error:
        say(f"error: {describe_machine_error(error, Path())}")
        sys.exit(1)
    except Stopped as stopped:
        remedy = f"; {stopped.remedy}" if stopped.remedy else ""
        say(f"stopped: nothing half-written is kept as finished{remedy}")
        sys.exit(130)


def open_standard_streams() -> None:
    """Open those of stdin, stdout and stderr that the caller has closed on /dev/null.

    Else the next file that is opened would get the number of stderr, and what libraries write there.
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
    """Two aligned columns on stdout."""
    width = max((len(str(name)) for name in rows), default=0)
    show(f"\n{title}")
    for name, value in rows.items():
        show(f"  {name!s:<{width}}  {value}")


@contextmanager
def bytes_bar(what: str) -> Iterator[Callable[[int], Callable[[int], object]]]:
    """A bar over bytes: call what it gives with the total, and the result of that with how many more are done."""
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, desc=what, dynamic_ncols=True, leave=False) as bar:

        def begin(total: int) -> Callable[[int], object]:
            bar.reset(total)
            return bar.update

        yield begin

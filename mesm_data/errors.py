"""Errors with a message for the user. Any other exception that reaches the terminal is a bug."""

from collections.abc import Iterable
from difflib import get_close_matches


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 300 characters; the name of its class if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip()[:300]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question about the most similar of the `known` names, with a space behind it; empty if none is similar."""
    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}? " if near else ""


class MesmError(Exception):
    """The work ran and failed, or its result is negative. The message names the file, line or sample, and what to do.

    Exit code 1.
    """

    exit_code = 1
    reported_elsewhere = False  # another process of the same command prints the message


class InputError(MesmError):
    """The input is not valid. Raised before any work is done. Exit code 2."""

    exit_code = 2

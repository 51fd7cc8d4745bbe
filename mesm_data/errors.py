"""What can go wrong, in the user's words. Anything else that reaches the terminal is a bug."""


def first_line(error: BaseException) -> str:
    """The first line of what a library says, at most 300 characters; the name of the error if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip()[:300]


class MesmError(Exception):
    """It ran, and the answer is no. The message names the file, line or sample, and what to do. Exit code 1."""

    exit_code = 1
    said_elsewhere = False  # another process of the same command tells the user


class InputError(MesmError):
    """What the user gave cannot be worked with; said before any work is done. Exit code 2."""

    exit_code = 2

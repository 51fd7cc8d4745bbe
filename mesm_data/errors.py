"""What can go wrong, in the user's words. Anything else that reaches the terminal is a bug."""


class MesmError(Exception):
    """It ran, and the answer is no. The message names the file, line or sample, and what to do. Exit code 1."""

    exit_code = 1
    said_elsewhere = False  # another process of the same command tells the user


class InputError(MesmError):
    """What the user gave cannot be worked with; said before any work is done. Exit code 2."""

    exit_code = 2

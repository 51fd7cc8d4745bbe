"""How long work reports its progress."""

from collections.abc import Callable

Step = Callable[[int], object]  # called with the number of further units (utterances, samples, bytes) that are done
Progress = Callable[[str, int, int], Step]  # starts a phase: its name, its units, and how many of them are to be done


def no_step(count: int) -> None:
    """Report nothing."""


def no_progress(phase: str, total: int, todo: int) -> Step:
    """Report nothing of a phase."""
    return no_step

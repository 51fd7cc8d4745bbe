"""Where work runs. A step never knows where it runs.

An engine is a function `run(function, items, workers)`: it applies `function` to every item, in any order and in any
process, and yields (item, result) as results are ready. `workers` is how many items are under way at once; None is one
per core. An exception of `function` is raised and ends the work; an item that killed its worker again and again comes
back with a WorkerDied.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Engine = Callable[[Callable[[Any], Any], Sequence[Any], int | None], Iterator[tuple[Any, Any]]]


class WorkerDied(Exception):
    """A worker was killed from outside or crashed (a decoder's segmentation fault, the out-of-memory killer)."""

    def __init__(self) -> None:
        super().__init__("the worker process died again and again (a crash, or out of memory)")

"""The interface of an engine. A job does not depend on where it runs.

An engine is a function `run(function, items, workers)`: it applies `function` to each item, in any order and in any
process, and yields (item, result) when a result is ready. `workers` is the number of items that are processed at a
time; None is one per core. An exception of `function` is raised and ends the run. An item that repeatedly kills its
worker has a WorkerDied as result.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Engine = Callable[[Callable[[Any], Any], Sequence[Any], int | None], Iterator[tuple[Any, Any]]]


class WorkerDied(Exception):
    """A worker crashed or was killed: a segmentation fault of a decoder, or the out-of-memory killer."""

    def __init__(self) -> None:
        super().__init__("the worker process died again and again (a crash, or out of memory)")

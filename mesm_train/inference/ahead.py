"""Iterators that threads read ahead of use, a bounded number of items each."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Semaphore
from typing import Generic, TypeVar

Source = TypeVar("Source")
Item = TypeVar("Item")
IsStopped = Callable[[], bool]


class _Reading(Generic[Item]):
    """One iterator and what a thread has read of it."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        iterate: Callable[[Source, IsStopped], Iterator[Item]],
        source: Source,
        ahead: int,
    ) -> None:
        self._queue: SimpleQueue[Item | None] = SimpleQueue()  # ends with None
        self._room = Semaphore(ahead)
        self._is_stopped = False
        self._future: Future[None] = pool.submit(self._read, iterate(source, lambda: self._is_stopped))

    def _read(self, items: Iterator[Item]) -> None:
        try:
            for item in items:
                self._room.acquire()
                if self._is_stopped:
                    return
                self._queue.put(item)
        finally:
            self._queue.put(None)

    def items(self) -> Iterator[Item]:
        """The items in their order, then the error of the iterator if it has raised one."""
        while (item := self._queue.get()) is not None:
            self._room.release()
            yield item
        self._future.result()

    def stop(self) -> None:
        """Let the thread end."""
        self._is_stopped = True
        self._room.release()
        self._future.cancel()


def read_ahead(
    iterate: Callable[[Source, IsStopped], Iterator[Item]], sources: Iterable[Source], *, workers: int, ahead: int
) -> Iterator[Item]:
    """All items of `iterate(source, is_stopped)`, source after source. An early end waits for the threads.

    Args:
        iterate: a generator of the items of a source, none of which is None. It may end as soon as `is_stopped()`.
        sources: any number of them.
        workers: the number of threads, each of which reads a source of its own.
        ahead: how many items of a source are read before they are used.
    """
    readings = deque[_Reading[Item]]()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for source in sources:
                readings.append(_Reading(pool, iterate, source, ahead))
                if len(readings) > workers:
                    yield from readings[0].items()
                    readings.popleft()
            while readings:
                yield from readings[0].items()
                readings.popleft()
        finally:
            for reading in readings:
                reading.stop()

"""Work on this machine: one process, or several."""

import ctypes
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

from mesm_data.engines import WorkerDied

Item = TypeVar("Item")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def available_cpus() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def run(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """The engine (see mesm_data.engines) of this machine. One worker is this process itself.

    A worker that dies costs nobody else: the items that were under way are tried again one by one, and the one that
    kills its worker again comes back as WorkerDied.
    """
    workers = workers or available_cpus()
    if workers == 1:
        for item in items:
            yield item, function(item)
        return
    suspects: list[Item] = []
    yield from _pool(function, items, workers, suspects)
    for item in list(suspects):
        again: list[Item] = []
        yield from _pool(function, [item], 1, again)
        if again:
            yield item, WorkerDied()


def _pool(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, suspects: list[Item]
) -> Iterator[tuple[Item, Result]]:
    """Run a pool until all items are done; those that were under way when a worker died are put into `suspects`."""
    todo = deque(items)
    while todo:
        pending: dict[Future[Result], Item] = {}
        pool = ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(os.getpid(),)
        )
        try:
            while todo or pending:
                # No more than the workers can take: what waits in a queue would be lost with a broken pool.
                while todo and len(pending) < workers:
                    with _undisturbed():
                        pending[pool.submit(function, todo[0])] = todo[0]
                    todo.popleft()
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    yield pending.pop(future), result
        except BrokenProcessPool:
            suspects.extend(pending.values())
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put Ctrl-C and SIGTERM off: a worker that is interrupted while it is begun is in nobody's list to be ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(parent: int) -> None:
    """In a new worker: leave Ctrl-C to the parent, and die with it however it dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # the mask is inherited
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)

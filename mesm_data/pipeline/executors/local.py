"""Work on this machine: one process, or several.

Each worker has a pipe of its own, so a worker that dies names the item that it died of. Pipes need neither semaphores
nor shared memory, which some containers do not have.
"""

import ctypes
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from mesm_data.errors import MesmError
from mesm_data.pipeline.executors.base import WorkerDied

Item = TypeVar("Item")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CONTEXT = get_context("spawn")


def available_cpus() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def run_local(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """The engine (see mesm_data.pipeline.executors) of this machine. One worker is this process itself.

    A worker that dies costs nobody else: its item is tried again when the others are done, alone, and if it kills its
    worker again it comes back as WorkerDied.
    """
    workers = workers or available_cpus()
    if workers == 1:
        for item in items:
            yield item, function(item)
        return
    suspects: list[Item] = []
    for item, result in run_pool(function, items, workers):
        if isinstance(result, WorkerDied):
            suspects.append(item)
        else:
            yield item, result
    for item in suspects:
        yield from run_pool(function, [item], 1)


class _Worker(Generic[Item, Result]):
    """A process that applies `function` to one item at a time. Its first message says that it has started."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.items: list[Item] = []  # the one that it works on
        self._process = _CONTEXT.Process(target=_serve, args=(function, theirs, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, item: Item) -> None:
        """Give it an item."""
        self.items.append(item)
        with suppress(BrokenPipeError):  # it has died already: `receive` finds that out
            self.pipe.send(item)

    def receive(self) -> list[tuple[Item, Result | WorkerDied]]:
        """Its item with the result, or with WorkerDied; nothing if it has only started.

        Raises what the function raised, MesmError if the process could not start.
        """
        done, self.items = self.items, []
        try:
            result, error = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.kill()
            if not done:
                raise MesmError(
                    f"a worker process could not start (exit code {self._process.exitcode}). The same command resumes"
                ) from None
            return [(item, WorkerDied()) for item in done]
        if error is not None:
            raise error
        return [(item, result) for item in done]

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def run_pool(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """Each item with its result, or with WorkerDied; another worker is started in the place of one that died."""
    todo = deque(items)
    running: dict[Any, _Worker[Item, Result]] = {}  # by pipe

    def start() -> None:
        with _undisturbed():
            worker = _Worker(function)
            running[worker.pipe] = worker

    try:
        for _ in range(min(workers, len(items))):
            start()
        while running:
            for pipe in wait(list(running)):
                worker = running[pipe]
                done = worker.receive()
                if any(isinstance(result, WorkerDied) for _, result in done):
                    del running[pipe]
                    if todo:
                        start()
                elif todo:
                    worker.send(todo.popleft())
                else:
                    running.pop(pipe).kill()
                yield from done
    finally:
        for worker in running.values():
            worker.kill()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put Ctrl-C and SIGTERM off: a worker that is interrupted while it is begun is in nobody's list to be ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(function: Callable[[Any], Any], pipe: Connection, parent: int) -> None:
    """A worker's life: leave Ctrl-C to the parent, die with it however it dies, answer item by item."""
    # In a group of its own, so that Ctrl-C does not reach the programs that it runs: their sound would end early.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # the mask is inherited
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    answer: tuple[Any, Exception | None] = (None, None)
    with suppress(EOFError, BrokenPipeError):  # the parent is gone
        while True:
            pipe.send(answer)
            item = pipe.recv()
            try:
                answer = (function(item), None)
            except Exception as error:
                error.add_note(traceback.format_exc())
                answer = (None, error)

"""The engine of this machine: one process, or several.

Each worker has its own pipe, so it is known which item a worker died of. Pipes need neither semaphores nor shared
memory, which some containers lack.
"""

import ctypes
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from mesm_data.errors import MesmError
from mesm_data.pipeline.executors.base import WorkerDied
from mesm_data.storage.parallel import available_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CONTEXT = get_context("spawn")


def run_local(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """Run the engine of this machine (see base.py). A single worker is this process itself.

    A worker that dies does not affect others: its item is repeated alone when the others are done. If it kills its
    worker again, its result is WorkerDied.
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
    """A process that applies `function` to one item at a time. Its first message reports that it has started."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.items: list[Item] = []  # the item in progress, if any
        self._process = _CONTEXT.Process(target=_serve, args=(function, theirs, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, item: Item) -> None:
        """Send an item to the process."""
        self.items.append(item)
        with suppress(BrokenPipeError):  # it has died: `receive` reports that
            self.pipe.send(item)

    def receive(self) -> list[tuple[Item, Result | WorkerDied]]:
        """Receive the next message: the item with its result or WorkerDied; an empty list if the process has started.

        Raises:
            MesmError: The process could not start.
            Exception: Whatever the function raised.
        """
        items, self.items = self.items, []
        try:
            result, error = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.kill()
            if not items:
                raise MesmError(
                    f"a worker process could not start (exit code {self._process.exitcode}). "
                    "Run the same command again to resume"
                ) from None
            return [(item, WorkerDied()) for item in items]
        if error is not None:
            raise error
        return [(item, result) for item in items]

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def run_pool(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """Yield each item with its result or WorkerDied. A worker that dies is replaced."""
    todo = deque(items)
    running: dict[Any, _Worker[Item, Result]] = {}  # by pipe

    def start() -> None:
        with _signals_deferred():
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
def _signals_deferred() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the block ends.

    A worker whose start is interrupted would not be in the list of those to end, and would print a traceback, because
    half of what it has to read is missing. The mask, which the worker inherits, covers the worker's own start. In this
    process it is not enough: the kernel gives the signal to another thread, and Python runs the handler in the main
    thread all the same.
    """
    received: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # no handler interrupts another thread
        for number in _SIGNALS:
            if signal.getsignal(number) is not None:  # None: C code has set a handler that Python cannot set again
                handlers[number] = signal.signal(number, lambda caught, _: received.append(caught))
    try:
        yield
    finally:
        for deferred, handler in handlers.items():
            signal.signal(deferred, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if received:
            signal.raise_signal(received[0])


def _serve(function: Callable[[Any], Any], pipe: Connection, parent: int) -> None:
    """The main function of a worker: ignore Ctrl-C, end with the parent however it ends, process item by item."""
    # A process group of its own keeps Ctrl-C from the programs that it runs, whose sound would end early.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # the mask is inherited
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    response: tuple[Any, Exception | None] = (None, None)
    with suppress(EOFError, BrokenPipeError):  # the parent has ended
        while True:
            pipe.send(response)
            item = pipe.recv()
            try:
                response = (function(item), None)
            except Exception as error:
                error.add_note(traceback.format_exc())
                response = (None, error)

"""The cores of this process, and parallel transfers in threads, of which the first error stops all."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event
from typing import Any

from mesm_data.storage.progress import Step

MAX_CONNECTIONS = 8  # S3 and web servers limit the rate of one connection to a part of the bandwidth


def available_cpus() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # not on macOS


class _Stopped(Exception):
    """Another transfer failed, or the user interrupted the command."""


def run_parallel(
    items: Iterable[Any], work: Callable[[Any, Step], None], step: Step, workers: int = MAX_CONNECTIONS
) -> None:
    """Call `work(item, step)` for all items in `workers` threads.

    After an error, or an interrupt, running calls end when they next call `step`; then the first error is raised.
    """
    stopped = Event()

    def report(number: int) -> None:
        if stopped.is_set():
            raise _Stopped
        step(number)

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, item, report) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise

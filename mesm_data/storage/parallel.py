"""Several files at once, in threads; the first error ends all."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event
from typing import Any

WORKERS = 8  # connections; S3 and web servers give one of them a part of what a line can carry
Progress = Callable[[int], object]


class _Ended(Exception):
    """Another transfer failed, or the user stopped."""


def parallel(
    items: Iterable[Any], work: Callable[[Any, Progress], None], progress: Progress, workers: int = WORKERS
) -> None:
    """Call `work(item, progress)` for all items. Raises what the first of them raises, once the others have stopped.

    Work under way ends when it next reports progress.
    """
    ended = Event()

    def report(number: int) -> None:
        if ended.is_set():
            raise _Ended
        progress(number)

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(work, item, report) for item in items]
        try:
            for done in as_completed(running):
                done.result()
        except BaseException:
            ended.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise

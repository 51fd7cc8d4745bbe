"""Atomic creation of a folder, and jobs that must not share a process."""

import fcntl
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from mesm_data.errors import InputError, MesmError
from mesm_data.pipeline.executors.base import WorkerDied
from mesm_data.pipeline.executors.local import run_pool
from mesm_data.storage.file_locks import is_named, lock_file

MARKER = "SYNTHETIC.txt"

Job = TypeVar("Job")
Result = TypeVar("Result")


@contextmanager
def atomic_folder(out: Path, marker: str) -> Iterator[Path]:
    """Yield the new folder `<out>.partial`, which is renamed to `out` at the end.

    `marker` is written to SYNTHETIC.txt first. An existing `.partial` is removed only if it contains that file and no
    running process has locked it. Raises InputError otherwise, if `out` is a file or not empty, or if somebody has
    removed the folder meanwhile.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is not empty; name a new folder, or remove this one first")
    partial = out.with_name(out.name + ".partial")
    _remove_stale(partial)
    partial.mkdir(parents=True)
    with (partial / MARKER).open("w", encoding="utf-8") as lock:
        lock_file(lock.fileno(), fcntl.LOCK_EX, partial / MARKER)
        lock.write(marker)
        lock.flush()
        try:
            yield partial
            if not is_named(partial / MARKER, lock):
                raise InputError(f"{partial}: was removed, or taken over by another run, while it was written")
            partial.replace(out)
        except BaseException:
            # Where somebody has removed it, a later run may write there.
            if is_named(partial / MARKER, lock):
                shutil.rmtree(partial, ignore_errors=True)
            raise


def _remove_stale(partial: Path) -> None:
    if not partial.exists():
        return
    if not (partial / MARKER).is_file():
        raise InputError(f"{partial}: exists and is not from an earlier run; move it")
    with (partial / MARKER).open() as lock:
        if not lock_file(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB, partial / MARKER):
            raise InputError(f"{partial}: another run is writing here; wait for it or name another folder")
        shutil.rmtree(partial)


def in_fresh_processes(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """Yield the results of `function` in order of completion, each job in a new process, `workers` at a time.

    So the state of a job's process never depends on earlier jobs.
    """
    threads = ThreadPoolExecutor(workers)
    try:
        futures = [threads.submit(_run_in_new_process, function, job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
    finally:
        threads.shutdown(cancel_futures=True)


def _run_in_new_process(function: Callable[[Job], Result], job: Job) -> Result:
    [(_, result)] = run_pool(function, [job], 1)
    if isinstance(result, WorkerDied):
        raise MesmError("A worker process was killed (perhaps memory ran out). Run it again, with fewer workers.")
    return result

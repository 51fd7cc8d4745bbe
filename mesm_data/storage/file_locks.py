"""Locks on files and folders, between processes of one machine or on a shared file system.

They are flock locks: the kernel releases them when their process ends, however it ends, so no lock is ever stale.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mesm_data.errors import InputError, MesmError
from mesm_data.storage.files import is_unsupported, make_folder, open_for_update

_log = logging.getLogger(__name__)


class LocksUnsupportedError(MesmError):
    """The file system has no locks. The message is its reason."""


def flock(file: IO[bytes] | int, operation: int) -> bool:
    """Lock an open file. Returns False if LOCK_NB is in `operation` and another process holds the lock.

    Raises LocksUnsupportedError.
    """
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if not is_unsupported(error):
            raise
        raise LocksUnsupportedError(error.strerror) from None
    return True


def lock_file(file: IO[bytes] | int, operation: int, path: Path) -> bool:
    """Like `flock`, but on a file system without locks log a warning that names the folder of `path`, and return True.

    There, nothing keeps other processes away.
    """
    try:
        return flock(file, operation)
    except LocksUnsupportedError as error:
        _log.warning(
            "note: %s: this file system has no locks (%s): start nothing else that writes to this folder",
            path.parent,
            error,
        )
        return True


def is_named(path: Path, file: IO[Any]) -> bool:
    """Whether the open file still has this path: another one may have taken its place."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which contains the process id. Warns on a file system without locks.

    Raises InputError if another process holds the lock, or if `path` is not a regular file.
    """
    make_folder(path.parent)
    with open_for_update(path, "a lock") as file:
        if not lock_file(file, fcntl.LOCK_EX | fcntl.LOCK_NB, path):
            file.seek(0)
            holder = file.read(32).decode(errors="replace").strip() or "unknown"
            raise InputError(
                f"{path.parent.parent} is being written by another process (pid {holder}): wait for it, or stop it"
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
        file.flush()
        yield

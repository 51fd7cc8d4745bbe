"""Locks on files and folders, for processes of one machine or of a shared file system."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mesm_data.errors import InputError
from mesm_data.storage.files import is_unsupported, make_folder, open_for_update

_log = logging.getLogger(__name__)


def lock_file(file: IO[bytes] | int, operation: int, path: Path) -> bool:
    """Lock an open file with flock; False if LOCK_NB is in `operation` and another process holds it.

    On a file system without locks it warns and returns True: other processes are not kept away there.
    """
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if not is_unsupported(error):
            raise
        _log.warning(
            "note: %s: this file system has no locks (%s): start nothing else that writes to this folder",
            path.parent,
            error.strerror,
        )
    return True


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for this process; raises InputError if another process holds it.

    The kernel drops the lock with the process, however it dies: there are no stale locks. Warns where there are none.
    """
    make_folder(path.parent)
    try:
        opened = open_for_update(path)
    except PermissionError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be used as a lock ({error.strerror}): remove it") from None
    with opened as file:
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

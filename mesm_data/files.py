"""Files that are whole or absent, digests, and JSON with one spelling."""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from mesm_data.errors import InputError, MesmError

_NO_ROOM = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EROFS: "read-only disk"}


def canonical_json(value: Any) -> bytes:
    """UTF-8, sorted keys, no spaces: equal values give equal bytes. NaN and infinities are refused (ValueError)."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing so that it appears whole or not at all: a temporary file beside it, fsync, rename.

    The mode is 0644 whatever the umask. Raises MesmError where there is no room, and leaves nothing behind.
    """
    # A random name, not the process id: processes of several machines may write into one folder.
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")
    try:
        with no_room_is_said(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people to read: sorted keys, two spaces of indent."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2, allow_nan=False).encode() + b"\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises InputError that names the file if it is missing or is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error})") from None


def sync_folder(path: Path) -> None:
    """Make a rename inside `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_no_room(error: Exception) -> bool:
    """Whether a write failed because of the disk, not because of what was written."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


@contextmanager
def no_room_is_said(path: Path) -> Iterator[None]:
    """Turn "no space left" and its kin into a sentence that names the place."""
    try:
        yield
    except OSError as error:
        if not is_no_room(error):
            raise
        raise MesmError(
            f"{path.parent}: {_NO_ROOM[error.errno or 0]}. Nothing unfinished is kept as finished: "
            "make room and run the same command again, it goes on where it stopped"
        ) from error


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for this process; raises InputError if another process holds it.

    The kernel drops the lock with the process, however it dies: there are no stale locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(32).decode(errors="replace").strip() or "unknown"
            raise InputError(
                f"{path.parent.parent} is being written by another process (pid {holder}): wait for it, or stop it"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
        file.flush()
        yield

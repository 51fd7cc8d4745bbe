"""Files that are whole or absent, digests, and JSON with one spelling."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import IO
from uuid import uuid4

from mesm_data.errors import InputError
from mesm_data.storage.machine_errors import is_resource_error, translate_machine_errors

# What file systems answer that have no locks, no modes, or nothing to synchronise a folder with (NFS, Lustre, FUSE...).
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOLCK, errno.ENOTTY)


NOT_REGULAR = "it is not a regular file"


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes. Raises OSError if it cannot be read or is no regular file."""
    with open_regular_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing so that it appears whole or not at all: a temporary file beside it, fsync, rename.

    The mode is 0644 whatever the umask, where the file system has modes. Raises MesmError where there is no room, and
    leaves nothing behind.
    """
    # A random name, not the process id: processes of several machines may write into one folder.
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")
    try:
        with translate_machine_errors(path):
            make_folder(path.parent)
            with temporary.open("wb") as file:
                yield file
                make_durable(file)
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def open_regular_file(path: Path) -> BufferedReader:
    """Open a file to read, without waiting for the writer of a pipe. Links are followed: corpora are often links.

    Raises OSError if it cannot be opened, or is a pipe, a device or a folder.
    """
    return os.fdopen(_regular(path, os.O_RDONLY), "rb")


def open_for_update(path: Path) -> BufferedRandom:
    """Open a file to read and append, made if it is not there; a link that somebody planted in its place is refused.

    Raises OSError if it cannot be opened, or is a link, a pipe, a device or a folder.
    """
    return os.fdopen(_regular(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW), "a+b")


def _regular(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):  # a link, a folder, a socket
            raise OSError(errno.EINVAL, NOT_REGULAR, str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return descriptor


def make_durable(file: IO[bytes]) -> None:
    """Write a finished file to the disk, readable for everybody. The mode is best effort: CIFS and exFAT have none."""
    file.flush()
    with _best_effort():
        os.fchmod(file.fileno(), 0o644)
    os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make a rename inside `path` survive a power cut, where the file system can do that."""
    with _best_effort():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _best_effort() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_unsupported(error):
            raise


def is_unsupported(error: OSError) -> bool:
    """Whether a file system has refused what some cannot do: lock, change a mode, synchronise a folder."""
    return error.errno in _UNSUPPORTED


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises InputError if it cannot be made, as below a file or with a long name."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except PermissionError:
        raise
    except OSError as error:
        if is_resource_error(error):
            raise
        raise InputError(f"{path} cannot be made a folder ({error.strerror}): choose another place") from None


def check_new_file(path: Path) -> None:
    """Raises InputError or PermissionError if no file can be written at `path`: to be asked before long work."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")
    try:
        temporary.touch(exist_ok=False)
        temporary.unlink()
    except PermissionError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another place") from None


def home_folder(variable: str) -> Path:
    """The user's home. Raises InputError if HOME is not set and the user is not in the passwd file.

    `variable` is the environment variable that does without it.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise InputError(f"this user has no home folder: set {variable} to a folder to use instead") from None

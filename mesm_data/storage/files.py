"""Atomic writes, regular files and sha256 digests."""

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

# Errors of file systems without locks, file modes or synchronization of folders (NFS, Lustre, FUSE, ...).
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOLCK, errno.ENOTTY)
_NOT_REGULAR = "it is not a regular file"


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes. Raises OSError if the file cannot be read or is not a regular file."""
    with open_regular_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing so that it appears complete or not at all: temporary file beside it, fsync, rename.

    The file's mode is 0644 whatever the umask, where the file system has modes. After an error no temporary file is
    left. Raises MesmError if the disk is full, and InputError if `path` is a device, a pipe or a socket: renaming would
    replace it, and root could lose /dev/null to `--out /dev/null`.
    """
    refuse_special_file(path)
    # A random name instead of the process id: processes on several machines may write into one folder.
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


def refuse_special_file(path: Path) -> None:
    """Raises InputError if `path`, or what it links to, is a device, a pipe or a socket."""
    try:
        mode = path.stat().st_mode
    except OSError:  # it does not exist, or cannot be written either, which is reported then
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path} is a device, a pipe or a socket: give the name of a file")


def open_regular_file(path: Path) -> BufferedReader:
    """Open a file for reading, without blocking on a pipe. Follows symbolic links: corpora often consist of them.

    Raises OSError if the file cannot be opened, or is a pipe, a device or a folder.
    """
    return os.fdopen(_open_regular(path, os.O_RDONLY), "rb")


def read_bounded_file(path: Path, limit: int, hint: str = "") -> bytes:
    """Read a file that a user names.

    Args:
        path: The file.
        limit: The number of bytes that such a file can have, a multiple of a MiB.
        hint: The end of the sentence about a larger file.

    Raises:
        InputError: The file cannot be read, or is larger than `limit`.
    """
    try:
        with open_regular_file(path) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    if len(data) > limit:
        raise InputError(f"{path} is larger than {limit >> 20} MiB{hint}")
    return data


def open_for_update(path: Path, purpose: str) -> BufferedRandom:
    """Open a file for reading and appending; create it if it does not exist. Does not follow symbolic links.

    Args:
        path: The file.
        purpose: What the file is for, as the end of "... cannot be used as".

    Raises:
        InputError: `path` is a link, a pipe, a device or a folder.
        OSError: The file cannot be opened for another reason.
    """
    try:
        descriptor = _open_regular(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW)
    except OSError as error:
        if error.strerror != _NOT_REGULAR:
            raise
        raise InputError(f"{path} cannot be used as {purpose} ({_NOT_REGULAR}): remove it") from None
    return os.fdopen(descriptor, "a+b")


def _open_regular(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):  # a link, a folder, a socket
            raise OSError(errno.EINVAL, _NOT_REGULAR, str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, _NOT_REGULAR, str(path))
    return descriptor


def make_durable(file: IO[bytes]) -> None:
    """Flush a finished file to the disk and set its mode to 0644, where the file system has modes (not CIFS, exFAT)."""
    file.flush()
    with _ignore_unsupported():
        os.fchmod(file.fileno(), 0o644)
    os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make renames inside `path` survive a power failure, where the file system supports it."""
    with _ignore_unsupported():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _ignore_unsupported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_unsupported(error):
            raise


def is_unsupported(error: OSError) -> bool:
    """Whether the error means that the file system lacks an optional feature: locks, modes, synchronizing a folder."""
    return error.errno in _UNSUPPORTED


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises InputError if the path is not possible (below a file, name too long)."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except PermissionError:
        raise
    except OSError as error:
        if is_resource_error(error):
            raise
        raise InputError(f"{path} cannot be created as a folder ({error.strerror}): choose another path") from None


def check_writable(path: Path) -> None:
    """Check that a file can be created at `path`; call it before long work. Raises InputError or PermissionError."""
    refuse_special_file(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file")
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")
    try:
        temporary.touch(exist_ok=False)
        temporary.unlink()
    except PermissionError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another path") from None


def home_folder(variable: str) -> Path:
    """The user's home folder.

    Args:
        variable: The environment variable that replaces the home folder; the error message names it.

    Raises:
        InputError: HOME is not set and the user has no entry in the password database.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise InputError(f"this user has no home folder: set {variable} to a folder to use instead") from None

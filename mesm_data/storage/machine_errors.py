"""Tells errors of the machine (disk full, too many open files, no memory, lost file system) from damaged source files.

An error of the machine ends a build with one sentence, because a dataset must not depend on the machine that builds it.
Damage of a source file belongs to the corpus, and is recorded as the reason of its utterances.
"""

import errno
import mmap
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mesm_data.errors import InputError, MesmError

_LOST = ("the file system does not answer", "bring it back")
# errno -> (problem, remedy)
_RESOURCES = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk quota is used up", "free some space"),
    errno.EROFS: ("the disk is read-only", "make it writable"),
    errno.EFBIG: ("the file is larger than files may be", "raise the limit (ulimit -f), or choose another file system"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many files are open on this machine", "close other programs"),
    errno.ENOMEM: ("no memory is left", "close other programs, or use fewer workers"),
    errno.EAGAIN: ("no more processes can be started", "raise the limit (ulimit -u), or use fewer workers"),
    **dict.fromkeys((errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN), _LOST),
}
_AGAIN = "run the same command again (mesm-train run: with --resume)"
_MIN_FREE = 2**28  # bytes: if they cannot be allocated, memory is short


def is_resource_error(error: BaseException) -> bool:
    """Whether the errno of an error means that the machine lacks a resource, whatever was read or written.

    FFmpeg also returns ENOMEM and EAGAIN for damaged files: its ENOMEM counts only if memory is short.
    """
    number = getattr(error, "errno", None)
    if _is_from_ffmpeg(error) and number in (errno.ENOMEM, errno.EAGAIN):
        return number == errno.ENOMEM and _memory_is_short()
    return isinstance(error, MemoryError) or number in _RESOURCES


def raise_resource_error(error: BaseException) -> None:
    """Raise `error` again if `is_resource_error`. For callers that treat other errors as damage of a source file."""
    if is_resource_error(error):
        raise error


def is_machine_error(error: BaseException) -> bool:
    """Whether an error that no reader of source files has handled is the machine's (output disk, processes, memory)."""
    if is_resource_error(error):
        return True
    if "can't start new thread" in str(error):
        return True
    return isinstance(error, OSError | ImportError) and not _is_from_ffmpeg(error)


def raise_for_exit_code(code: int, stderr: str) -> None:
    """Raise OSError if a child process ended with this exit code and standard error because of the machine."""
    if code in (-signal.SIGKILL, -signal.SIGTERM):
        raise OSError(errno.ENOMEM, f"it was ended by signal {-code}")
    if code == -signal.SIGXFSZ:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    for number in _RESOURCES:
        if code and os.strerror(number) in stderr and number not in (errno.ENOMEM, errno.EAGAIN):
            raise OSError(number, os.strerror(number))
    if code and os.strerror(errno.ENOMEM) in stderr and _memory_is_short():
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def describe_machine_error(error: BaseException, place: Path | str) -> str:
    """The message for the user about an error of the machine that ended work in the folder `place`."""
    place = getattr(error, "filename", None) or place
    number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    if number in _RESOURCES:
        problem, remedy = _RESOURCES[number]
        return f"{place}: {problem}. No incomplete output is kept as complete: {remedy} and {_AGAIN}"
    problem = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return f"{place}: {problem}. To continue, {_AGAIN}"


def translate_os_error(error: OSError) -> MesmError:
    """The error for the user of an OSError that nothing has handled: of the machine, or of a path that it names."""
    if error.filename is None or is_resource_error(error):
        return MesmError(describe_machine_error(error, Path()))
    advice = "give this user the right to it" if isinstance(error, PermissionError) else "check the path"
    return InputError(f"{error.filename}: {error.strerror}: {advice}, or choose another place")


@contextmanager
def translate_machine_errors(path: Path) -> Iterator[None]:
    """Turn an error of the machine while `path` is written into a MesmError; set `filename` of other OSErrors."""
    try:
        yield
    except MesmError:
        raise
    except Exception as caught:
        error = _os_error(caught)
        if error is None:
            raise
        if is_resource_error(error) or error.errno == errno.EIO:
            raise MesmError(describe_machine_error(error, path.parent)) from caught
        if error.filename is None:
            error.filename = str(path)
        if error is caught:
            raise
        raise error from caught


def _os_error(error: Exception) -> OSError | None:
    """The OSError that an exception is, or that a library in Rust (safetensors, tokenizers) has put into words."""
    if isinstance(error, OSError):
        return error
    match = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(match[1]), os.strerror(int(match[1]))) if match else None


def _is_from_ffmpeg(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "av"


def _memory_is_short() -> bool:
    try:
        mmap.mmap(-1, _MIN_FREE).close()
    except OSError:
        return True
    return False

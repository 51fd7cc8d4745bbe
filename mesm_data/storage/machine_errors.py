"""Which errors are the machine's: no room, no descriptors, no memory, a file system that went away.

They end a build with one sentence, because a dataset must not depend on the machine that made it. What is wrong with a
source file belongs to the corpus, and becomes the reason of its utterances.
"""

import errno
import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mesm_data.errors import MesmError

_GONE = ("the file system does not answer", "bring it back")
# errno -> what is wrong, what to do.
_RESOURCES = {
    errno.ENOSPC: ("the disk is full", "make room"),
    errno.EDQUOT: ("the disk quota is used up", "make room"),
    errno.EROFS: ("read-only disk", "make it writable"),
    errno.EFBIG: ("files may not be this large here", "raise the limit (ulimit -f), or choose another file system"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many files are open on this machine", "close other programs"),
    errno.ENOMEM: ("no memory is left", "close other programs, or use fewer workers"),
    errno.EAGAIN: ("no more processes can be started", "raise the limit (ulimit -u), or use fewer workers"),
    **dict.fromkeys((errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN), _GONE),
}
_SHORT = 2**28  # bytes: whoever cannot get them is out of memory


def is_resource_error(error: BaseException) -> bool:
    """Whether an error says by its errno that the machine lacks something, whatever was being read or written.

    FFmpeg's ENOMEM and EAGAIN are also its answers to damaged files: its ENOMEM counts if memory is short.
    """
    number = getattr(error, "errno", None)
    if _is_from_ffmpeg(error) and number in (errno.ENOMEM, errno.EAGAIN):
        return number == errno.ENOMEM and _memory_is_short()
    return isinstance(error, MemoryError) or number in _RESOURCES


def raise_resource_error(error: BaseException) -> None:
    """Raise `error` again if `is_resource_error`: for those who take all other errors for damage of a source."""
    if is_resource_error(error):
        raise error


def is_machine_error(error: BaseException) -> bool:
    """Whether an error that no reader of a source has explained is the machine's: OUT, scratch, processes, memory."""
    if is_resource_error(error):
        return True
    if "can't start new thread" in str(error):
        return True
    return isinstance(error, OSError | ImportError) and not _is_from_ffmpeg(error)


def check_exit(code: int, words: str) -> None:
    """Raises OSError if a program that we ran ended with `code` and these `words` because of the machine."""
    if code in (-signal.SIGKILL, -signal.SIGTERM):
        raise OSError(errno.ENOMEM, f"it was ended by signal {-code}")
    if code == -signal.SIGXFSZ:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    for number in _RESOURCES:
        if code and os.strerror(number) in words and number not in (errno.ENOMEM, errno.EAGAIN):
            raise OSError(number, os.strerror(number))
    if code and os.strerror(errno.ENOMEM) in words and _memory_is_short():
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def message(error: BaseException, place: Path | str) -> str:
    """What to tell the user of an error of the machine that ended work in `place`."""
    place = getattr(error, "filename", None) or place
    number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    if number in _RESOURCES:
        what, remedy = _RESOURCES[number]
        return (
            f"{place}: {what}. Nothing unfinished is kept as finished: {remedy}, and run the same command again: "
            "it resumes where it stopped"
        )
    what = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return f"{place}: {what}. The same command resumes where it stopped"


@contextmanager
def translate_machine_errors(path: Path) -> Iterator[None]:
    """Turn what the machine lacks while `path` is written into a MesmError; give other OSErrors the path."""
    try:
        yield
    except OSError as error:
        if is_resource_error(error) or error.errno == errno.EIO:
            raise MesmError(message(error, path.parent)) from error
        if error.filename is None:
            error.filename = str(path)
        raise


def _is_from_ffmpeg(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "av"


def _memory_is_short() -> bool:
    try:
        mmap.mmap(-1, _SHORT).close()
    except OSError:
        return True
    return False

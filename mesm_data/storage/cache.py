"""A folder of copies: shards of datasets that lie elsewhere, shared by all processes of a machine, of bounded size.

CACHE/<root>/dataset.json  manifest.parquet  shards/*.tar   a dataset, as far as it was needed; named by its root, so
                                                            that all runs and all URLs of the same data share it
CACHE/<root>/locks/*        who writes a shard holds its lock, and says in it how many bytes are coming
CACHE/.lock                 held for a moment while room is made

A shard appears when it is whole and has its digest; who reads one holds a shared lock on the file itself, and only
files that nobody holds are deleted. All locks are the kernel's (flock): they end with their process, however it ends.
"""

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path

from mesm_data.errors import MesmError
from mesm_data.storage.files import NOT_REGULAR, home_folder, is_unsupported, open_for_update, open_regular_file

GB = 10**9
_ROOT = re.compile(r"[0-9a-f]{64}")


def cache_folder() -> Path:
    """$MESM_CACHE, or else mesm in $XDG_CACHE_HOME (~/.cache)."""
    if told := os.environ.get("MESM_CACHE"):
        return Path(told).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or home_folder("MESM_CACHE") / ".cache").expanduser() / "mesm"


class Cache:
    """The shards in `folder`: at most `limit` bytes, but for what is in use. Safe for several threads and processes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    def place(self, root: str) -> Path:
        """Where a dataset lies."""
        return self.folder / root

    @contextmanager
    def writing(self, root: str, name: str, *, wait: bool) -> Iterator[int | None]:
        """Be the only one on this machine who writes `name`: a descriptor for make_room; None if another one is."""
        path = self.place(root) / "locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_lock(path) as file:
            descriptor = file.fileno()
            if not _locked(descriptor, wait=wait):
                yield None
                return
            os.ftruncate(descriptor, 0)
            yield descriptor
            os.ftruncate(descriptor, 0)  # not after an error: then what is half-written counts as a dead one's

    def make_room(self, writer: int, size: int, *, must: bool) -> bool:
        """Room for the `size` bytes that `writer` is about to write, by deleting what was not used for longest.

        If that does not suffice: False, and nothing was deleted; or, where they `must` be written, go above the bound.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with _open_lock(self.folder / ".lock") as file:
            _locked(file.fileno(), wait=True)
            shards, coming = self._shards(), self._coming()
            excess = sum(size for _, size, _ in shards) + coming + size - self.limit
            free: list[tuple[Path, int]] = []
            try:
                for _, held, path in sorted(shards):
                    if excess <= 0:
                        break
                    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                    free.append((path, descriptor))
                    if _locked(descriptor, wait=False):
                        excess -= held
                    else:
                        os.close(free.pop()[1])
                if excess > 0 and not must:
                    return False
                for path, _ in free:
                    path.unlink()
            finally:
                for _, descriptor in free:
                    os.close(descriptor)
            os.ftruncate(writer, 0)
            os.write(writer, b"%d" % size)
            return True

    def hold(self, path: Path, size: int) -> int | None:
        """A descriptor that keeps the shard `path` from being deleted until it is closed; None if it is not there."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            path.unlink(missing_ok=True)  # a link or a socket is not what we put there
            return None
        try:
            _flock(descriptor, fcntl.LOCK_SH)
            found = os.fstat(descriptor)
            if found.st_nlink and found.st_size == size:  # else it was deleted in between, or is not what we put there
                os.utime(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if found.st_nlink:
            path.unlink(missing_ok=True)
        return None

    def _folders(self) -> Iterator[Path]:
        """Folders that we made: never one that is linked into the cache, nor a dataset that somebody put there."""
        for folder in self.folder.iterdir():
            parts = (folder, folder / "shards", folder / "locks")
            if _ROOT.fullmatch(folder.name) and all(part.is_dir() and not part.is_symlink() for part in parts):
                yield folder

    def _shards(self) -> list[tuple[int, int, Path]]:
        """When each shard was used last (ns), its bytes, its path."""
        found = []
        for folder in self._folders():
            for path in folder.glob("shards/*.tar"):
                if not path.is_symlink() and not path.name.startswith("."):
                    said = path.stat()
                    found.append((said.st_mtime_ns, said.st_size, path))
        return found

    def _coming(self) -> int:
        """The bytes that others are writing now; what those left half-written who ended is deleted."""
        total = 0
        for folder in self._folders():
            for lock in folder.glob("locks/*"):
                with open_regular_file(lock) as file:
                    said = file.read(32)
                if not said:
                    continue
                with _open_lock(lock) as file:
                    if not _locked(file.fileno(), wait=False):
                        total += int(said) if said.isdigit() else 0
                        continue
                    for partial in folder.glob(f"shards/.{lock.name}.*"):
                        partial.unlink(missing_ok=True)
                    file.truncate(0)
        return total


def _open_lock(path: Path) -> BufferedRandom:
    """A lock of the cache. Raises MesmError if a link, a pipe or a folder was put in its place."""
    try:
        return open_for_update(path)
    except OSError as error:
        if error.strerror != NOT_REGULAR:
            raise
        raise MesmError(f"{path} cannot be used as a lock ({error.strerror}): remove it") from None


def _locked(descriptor: int, *, wait: bool) -> bool:
    """Take the exclusive lock of an open file; False if another one has it and we do not `wait`."""
    try:
        _flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flock(descriptor: int, operation: int) -> None:
    """Raises MesmError where the file system has no locks: a shard that is in use could be deleted there."""
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if not is_unsupported(error):
            raise
        raise MesmError(
            f"the cache's file system has no locks ({error.strerror}): set MESM_CACHE to a folder on a local disk"
        ) from None

"""The cache: local copies of shards of remote datasets, of bounded size, shared by all processes of a machine.

CACHE/<root>/dataset.json  manifest.parquet  shards/*.tar   the parts of a dataset that were needed. The folder is named
                                                            by the dataset's root, so all URLs of the same data share it
CACHE/<root>/locks/*        one per shard: locked by the process that writes the shard; contains the shard's size
CACHE/.lock                 locked while space is reserved

A shard appears when it is complete and its digest has been checked. Readers hold a shared lock on the shard, and only
unlocked shards are deleted. All locks are released by the kernel when their process ends.
"""

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mesm_data.errors import MesmError
from mesm_data.storage.file_locks import LocksUnsupportedError, flock
from mesm_data.storage.files import home_folder, open_for_update, open_regular_file

GB = 10**9
_ROOT = re.compile(r"[0-9a-f]{64}")
_OPEN_SHARD = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class CachedShard(NamedTuple):
    """A shard in the cache. Sorting puts the least recently used first."""

    last_used_ns: int
    size: int
    path: Path


def cache_folder() -> Path:
    """$MESM_CACHE, or else $XDG_CACHE_HOME/mesm (~/.cache/mesm)."""
    if folder := os.environ.get("MESM_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or home_folder("MESM_CACHE") / ".cache").expanduser() / "mesm"


class Cache:
    """The cache in `folder`, of at most `limit` bytes beside the shards in use. Safe for threads and processes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    def dataset_folder(self, root: str) -> Path:
        """The folder of the dataset with this root."""
        return self.folder / root

    @contextmanager
    def write_lock(self, root: str, name: str, *, wait: bool) -> Iterator[int | None]:
        """Lock the file `name` of a dataset for writing.

        Args:
            root: The root of the dataset.
            name: The name of the file.
            wait: Wait for another writer to finish.

        Yields:
            A descriptor for `reserve`; None if another writer holds the lock.
        """
        path = self.dataset_folder(root) / "locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_for_update(path, "a lock") as file:
            descriptor = file.fileno()
            if not _lock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield None
                return
            os.ftruncate(descriptor, 0)
            yield descriptor
            os.ftruncate(descriptor, 0)  # not after an error: the partial file is then cleaned up as a dead writer's

    def reserve(self, writer: int, size: int, *, force: bool) -> bool:
        """Reserve space for a shard, deleting the least recently used shards if necessary.

        Args:
            writer: The descriptor of the shard's `write_lock`.
            size: Bytes of the shard.
            force: Exceed the limit if deleting all unused shards does not suffice.

        Returns:
            Whether the space is reserved. If not, nothing was deleted.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with open_for_update(self.folder / ".lock", "a lock") as file:
            _lock(file.fileno(), fcntl.LOCK_EX)
            shards, reserved = self._shards(), self._reserved_bytes()
            excess = sum(shard.size for shard in shards) + reserved + size - self.limit
            unused: list[tuple[Path, int]] = []  # path, locked descriptor
            try:
                for shard in sorted(shards):
                    if excess <= 0:
                        break
                    descriptor = os.open(shard.path, _OPEN_SHARD)
                    unused.append((shard.path, descriptor))
                    if _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
                        excess -= shard.size
                    else:
                        os.close(unused.pop()[1])
                if excess > 0 and not force:
                    return False
                for path, _ in unused:
                    path.unlink()
            finally:
                for _, descriptor in unused:
                    os.close(descriptor)
            os.ftruncate(writer, 0)
            os.write(writer, b"%d" % size)
            return True

    def pin(self, path: Path, size: int) -> int | None:
        """Keep the shard `path` in the cache until the returned descriptor is closed.

        Returns None if the shard is not there. Whatever else lies at `path` (a link, another size) is removed.
        """
        try:
            descriptor = os.open(path, _OPEN_SHARD)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):  # a link, a socket
                raise
            path.unlink(missing_ok=True)
            return None
        try:
            _lock(descriptor, fcntl.LOCK_SH)
            status = os.fstat(descriptor)
            if status.st_nlink and status.st_size == size:  # no link: it was deleted before it was locked
                os.utime(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if status.st_nlink:
            path.unlink(missing_ok=True)
        return None

    def _dataset_folders(self) -> Iterator[Path]:
        """Folders that the cache has created. Linked folders, and datasets put there by hand, are left alone."""
        for folder in self.folder.iterdir():
            parts = (folder, folder / "shards", folder / "locks")
            if _ROOT.fullmatch(folder.name) and all(part.is_dir() and not part.is_symlink() for part in parts):
                yield folder

    def _shards(self) -> list[CachedShard]:
        shards = []
        for folder in self._dataset_folders():
            for path in folder.glob("shards/*.tar"):
                if not path.is_symlink() and not path.name.startswith("."):
                    status = path.stat()
                    shards.append(CachedShard(status.st_mtime_ns, status.st_size, path))
        return shards

    def _reserved_bytes(self) -> int:
        """Bytes of shards that are being written. Deletes the partial files of writers that have died."""
        total = 0
        for folder in self._dataset_folders():
            for path in folder.glob("locks/*"):
                with open_regular_file(path) as file:
                    size = file.read(32)
                if not size:
                    continue
                with open_for_update(path, "a lock") as lock:
                    if not _lock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
                        total += int(size) if size.isdigit() else 0
                        continue
                    for partial in folder.glob(f"shards/.{path.name}.*"):
                        partial.unlink(missing_ok=True)
                    lock.truncate(0)
        return total


def _lock(descriptor: int, operation: int) -> bool:
    """`flock`; MesmError on a file system without locks, because a shard that is in use could be deleted there."""
    try:
        return flock(descriptor, operation)
    except LocksUnsupportedError as error:
        raise MesmError(
            f"the cache's file system has no locks ({error}): set MESM_CACHE to a folder on a local disk"
        ) from None

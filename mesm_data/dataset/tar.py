"""Canonical tar: the one byte sequence that a list of samples has.

USTAR, mtime 0, uid = gid = 0, no names, mode 0644, members in webdataset.TarWriter's order (sorted by extension),
two empty blocks at the end, padded to 10 240 bytes: what webdataset.TarWriter writes with these settings. It is not
used itself, because it imports torch (230 MB and 1.4 s of CPU for every worker). A shard is a concatenation of samples'
blocks, because no block depends on what stands before it.
"""

import tarfile
from collections.abc import Mapping
from typing import IO, Any

BLOCK = tarfile.BLOCKSIZE
RECORD = tarfile.RECORDSIZE
# ustar holds names up to 100 bytes without splitting them; the longest suffix is ".faces.npy".
MAX_KEY = 88


def check_key(key: str) -> None:
    """Raises ValueError if `key` cannot name a sample: WebDataset splits a name at its first dot and at slashes."""
    if not 0 < len(key) <= MAX_KEY or not key.isascii() or not key.isprintable() or set("./\\") & set(key):
        raise ValueError(f"{key!r} cannot be a sample key: printable ASCII, at most {MAX_KEY} bytes, no dot, no slash")


def padded_size(size: int) -> int:
    """`size` rounded up to whole 512-byte blocks."""
    return -(-size // BLOCK) * BLOCK


def tar_header(name: str, size: int) -> bytes:
    """The canonical 512-byte header of a member."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info.tobuf(tarfile.USTAR_FORMAT)


def tar_end(size: int) -> bytes:
    """What follows the last member of an archive of `size` bytes so far."""
    total = -(-(size + 2 * BLOCK) // RECORD) * RECORD
    return bytes(total - size)


class SampleWriter:
    """Writes samples to an open file as canonical tar blocks and tells where each member's data stands."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0

    def write(self, key: str, members: Mapping[str, bytes]) -> dict[str, int]:
        """Append one sample. Returns the offset of each member's data from the start of the file."""
        check_key(key)
        offsets = {}
        for extension, data in sorted(members.items()):
            offsets[extension] = self.size + BLOCK
            self._append(tar_header(f"{key}.{extension}", len(data)))
            self._append(data)
            self._append(bytes(padded_size(len(data)) - len(data)))
        return offsets

    def close(self) -> None:
        """Finish the archive (the file itself stays open)."""
        self._append(tar_end(self.size))

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)

    def __enter__(self) -> "SampleWriter":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

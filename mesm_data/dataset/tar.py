"""Canonical tar: a list of samples has exactly one byte sequence.

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
    """Raises ValueError if `key` is not a valid sample key: WebDataset splits names at the first dot and at slashes."""
    if not 0 < len(key) <= MAX_KEY or not key.isascii() or not key.isprintable() or set("./\\") & set(key):
        raise ValueError(f"{key!r} cannot be a sample key: printable ASCII, at most {MAX_KEY} bytes, no dot, no slash")


def padded_size(size: int) -> int:
    """Round `size` up to whole blocks of 512 bytes."""
    return -(-size // BLOCK) * BLOCK


def tar_header(name: str, size: int) -> bytes:
    """The canonical header of a member, 512 bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info.tobuf(tarfile.USTAR_FORMAT)


def tar_end(size: int) -> bytes:
    """The end of an archive whose members take `size` bytes."""
    total = -(-(size + 2 * BLOCK) // RECORD) * RECORD
    return bytes(total - size)


class SampleWriter:
    """Writes samples to an open file as canonical tar blocks.

    Attributes:
        size: The number of bytes written so far.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0

    def write(self, key: str, members: Mapping[str, bytes]) -> dict[str, int]:
        """Append a sample. Returns the offset of each member's data from the start of the file."""
        check_key(key)
        offsets = {}
        for extension, data in sorted(members.items()):
            offsets[extension] = self.size + BLOCK
            self._append(tar_header(f"{key}.{extension}", len(data)))
            self._append(data)
            self._append(bytes(padded_size(len(data)) - len(data)))
        return offsets

    def close(self) -> None:
        """Write the end of the archive; the file stays open."""
        self._append(tar_end(self.size))

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)

    def __enter__(self) -> "SampleWriter":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

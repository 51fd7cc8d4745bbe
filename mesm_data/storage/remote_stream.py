"""Sequential reading of a local or remote file; an interrupted connection is resumed where it broke."""

from io import BufferedReader, RawIOBase
from typing import Any

from mesm_data.storage.remote_bytes import CHUNK_BYTES, RetryPolicy, iter_chunks
from mesm_data.storage.remote_errors import RetryableError


def open_stream(url: str, size: int) -> BufferedReader:
    """Open a file of `size` bytes for sequential reading. An interrupted connection is resumed where it broke.

    Reading raises InputError or MesmError.
    """
    return BufferedReader(_Stream(url, size), CHUNK_BYTES)


class _Stream(RawIOBase):
    """The raw bytes of `open_stream`."""

    def __init__(self, url: str, size: int) -> None:
        self._url, self._size, self._position, self._policy = url, size, 0, RetryPolicy(url)
        self._chunks, self._rest = iter_chunks(url, 0, size), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the beginning of `buffer`, and return the number of bytes; 0 at the end of the file."""
        while not self._rest and self._position < self._size:
            self._rest = memoryview(self._next_chunk())
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._rest))
        target[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def _next_chunk(self) -> bytes:
        try:
            chunk = next(self._chunks, b"")
            if not chunk:
                raise RetryableError("it ends too early")
        except RetryableError as error:
            self._policy.wait(error)
            self._chunks = iter_chunks(self._url, self._position, self._size)
            return b""
        self._position += len(chunk)
        return chunk

"""Reuses the memory of batches: touching new pages costs several times as much as the copy into them."""

import weakref
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_POOLED_BYTES = 2**16  # below this, reuse gains nothing


class BufferPool:
    """Allocates arrays in reusable buffers. A buffer is reused once no array or tensor in it is alive. Thread-safe.

    Each array lies in its buffer through a new owner, an array that all its views and tensors keep alive. When the
    owner is finalized, the buffer is returned. This depends on object lifetimes, which Python defines, and not on
    reference counts, which differ between versions (Python 3.14 borrows references).

    There are about as many buffers as are in use at a time. Measured: 181 us per sample with new memory for each batch,
    40 us with memory that was touched before (200 kB per sample, a virtual machine).
    """

    def __init__(self) -> None:
        self._free: list[memoryview] = []
        self._lock = Lock()
        # Finalizers run in any thread at any time, even while this thread holds the lock: SimpleQueue.put is reentrant.
        self._returned: SimpleQueue[memoryview] = SimpleQueue()

    def concatenate(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Concatenate parts (at least one) of one dtype and one shape beyond the first axis."""
        count, rest, dtype = sum(map(len, parts)), parts[0].shape[1:], parts[0].dtype
        size = count * int(np.prod(rest)) * dtype.itemsize
        if size < MIN_POOLED_BYTES:
            return np.concatenate(parts)
        return np.concatenate(parts, out=self._take(size).view(dtype).reshape(count, *rest))

    def _take(self, size: int) -> NDArray[np.uint8]:
        buffer = self._buffer(size)
        # The base of the owner is not an array, so numpy makes the owner the base of each of its views.
        owner = np.frombuffer(buffer, np.uint8)
        weakref.finalize(owner, self._returned.put, buffer).atexit = False
        return owner[:size]

    def _buffer(self, size: int) -> memoryview:
        """A free or new buffer of at least `size` bytes."""
        with self._lock:
            while not self._returned.empty():
                self._free.append(self._returned.get())
            for index in reversed(range(len(self._free))):  # the last one is most likely in the CPU's cache
                if len(self._free[index]) >= size:
                    return self._free.pop(index)
            self._free.clear()  # all are too small: larger ones replace them
        return np.empty(size + size // 4, np.uint8).data

"""Pool of memory for large rasters: reused once no array, tensor or view of a raster is left.

12 megapixels take 1.5 ms of CPU time instead of 4.5. glibc's ``M_MMAP_THRESHOLD`` and
``M_TRIM_THRESHOLD`` give the same, but for every allocation of the process and without a bound on
what it keeps.
"""

import weakref

import numpy as np

from saccade.media.types import CHANNELS, Pixels

# The allocator keeps the memory of smaller ones. That of larger ones goes back to the system, which
# clears it for the next: a tenth of the time that a JPEG of 12 megapixels takes.
_LARGE = 16 * 2**20
_MAX_KEPT = 192 * 2**20  # bytes; five of 12 megapixels


class RasterPool:
    """Pool of rasters for decoders to fill. Thread-safe."""

    def __init__(self) -> None:
        self._free: dict[int, Pixels] = {}

    def take(self, height: int, width: int) -> Pixels:
        """A raster, uint8 [height, width, 3], of any content."""
        size = height * width * CHANNELS
        if size < _LARGE:
            # NumPy asks for huge pages, which spares the time for each small one.
            return np.empty((height, width, CHANNELS), np.uint8)
        memory = self._taken(size)
        # Views, tensors and buffers made of an array hold on to the one above this memoryview, so
        # that one is the last to go.
        lent = np.frombuffer(memory.data, np.uint8, size)
        weakref.finalize(lent, self._take_back, memory).atexit = False
        return lent.reshape(height, width, CHANNELS)

    # The garbage collector may take one back at any time, in the middle of these methods too. So
    # there is no lock: each step on the dict is whole, and two at once keep one more or less.

    def _taken(self, size: int) -> Pixels:
        for key in list(self._free):
            memory = self._free.get(key)
            if (
                memory is not None
                and size <= memory.size <= 2 * size
                and self._free.pop(key, None) is not None
            ):
                return memory
        return np.empty(size, np.uint8)

    def _take_back(self, memory: Pixels) -> None:
        self._free[id(memory)] = memory
        for oldest in list(self._free):
            if sum(kept.size for kept in list(self._free.values())) <= _MAX_KEPT:
                break
            self._free.pop(oldest, None)

"""Scratch memory that each worker thread keeps between the images it decodes."""

import threading

import numpy as np

from saccade.media.types import Pixels

# Of one thread: three bytes a pixel of a 16-megapixel image.
_MAX_KEPT = 48 * 2**20


class ThreadBuffer(threading.local):
    """One buffer a thread. What lies in it is gone when the thread asks again."""

    def __init__(self) -> None:
        self._kept: Pixels = np.empty(0, np.uint8)

    def get(self, size: int) -> Pixels | None:
        """So many bytes, or None where that is more than a thread should keep."""
        if size > _MAX_KEPT:
            return None
        if size > self._kept.size:
            self._kept = np.empty(size, np.uint8)
        return self._kept[:size]

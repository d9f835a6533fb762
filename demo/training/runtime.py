"""Process settings that make PyTorch's training on a CPU faster. Import this first.

Threads that wait for each other spin for a moment before they sleep: operations here are short, and
waking takes as long as some of them (a quarter of a step, on two cores). Freed tensors stay with
the process, which otherwise asks the kernel for zeroed pages at every operation.
"""

import ctypes
import os

# GNU OpenMP reads these when PyTorch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "active")
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

# Parameters of mallopt(3) and the largest threshold that glibc takes.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 32 * 2**20


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed; elsewhere than on Linux with glibc nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 8 * _LARGEST)

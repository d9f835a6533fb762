"""CPU count available to this process; priority of decode threads."""

import os
import sys

_NICENESS = 10  # about a tenth of the time of a thread that does not yield


def usable_cores() -> int:
    """Those of the machine, or fewer where the process is confined to some."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def lower_thread_priority() -> None:
    """Lowers the priority (niceness) of the calling thread and of those that it starts.

    On Linux niceness is a thread's; elsewhere it is the process's, and stays as it is.
    """
    if sys.platform == "linux":
        os.nice(_NICENESS)

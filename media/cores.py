"""How many processors this process may use."""

import os


def usable_cores() -> int:
    """Those of the machine, or fewer where the process is confined to some."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

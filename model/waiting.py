"""How vLLM's processes wait for each other on a CPU.

An engine and its workers hand each other messages through shared memory. Who waits for one looks
again and again for a second, giving way in between (`sched_yield`), and sleeps only then. Beside a
GPU that costs nothing that matters. On a CPU the engine takes a core for as long as its workers
compute: a core that decodes pictures, answers other requests, or computes.
"""

import threading
import time

_SHORTEST = 5e-5  # seconds; with Linux's timer slack about a tenth of a millisecond
_LONGEST = 1e-3
_SHARE = 0.05  # of what has been waited: that much later at most is an answer seen


def wait_in_short_sleeps() -> None:
    """Makes this process sleep between two looks. Changes nothing where there is no CPU backend.

    (vLLM 0.32 could be told to sleep until it is notified, but its notices may get lost.)
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.distributed.device_communicators import shm_broadcast

    shm_broadcast.sched_yield = Pause()


class Pause(threading.local):
    """Between two looks of a thread: the longer it has waited, the longer.

    Looks that follow at once belong to the same wait.
    """

    def __init__(self) -> None:
        self._began = self._ended = 0.0

    def __call__(self) -> None:
        """Sleeps."""
        now = time.monotonic()
        if now - self._ended > _LONGEST:
            self._began = now
        time.sleep(min(_LONGEST, max(_SHORTEST, _SHARE * (now - self._began))))
        self._ended = time.monotonic()

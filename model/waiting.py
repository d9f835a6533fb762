"""How vLLM's processes wait for each other on a CPU.

An engine and its workers hand each other messages through shared memory. Who waits for one looks
again and again for a second, giving way in between (`sched_yield`), and sleeps only then. Beside a
GPU that costs nothing that matters. On a CPU the engine takes a core for as long as its workers
compute: a core that decodes pictures, answers other requests, or computes.
"""

import time

_PAUSE = 5e-5  # seconds; with Linux's timer slack about a tenth of a millisecond


def wait_in_short_sleeps() -> None:
    """Makes this process sleep between two looks. Changes nothing where there is no CPU backend.

    (vLLM 0.32 could be told to sleep until it is notified, but its notices may get lost.)
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.distributed.device_communicators import shm_broadcast

    shm_broadcast.sched_yield = _pause


def _pause() -> None:
    time.sleep(_PAUSE)

"""How vLLM's processes wait for each other on a CPU.

An engine and its workers hand each other messages through shared memory. Who waits for one looks
again and again for a second, giving way in between (`sched_yield`), and only then sleeps until the
writer's notice comes. Beside a GPU that costs nothing that matters. On a CPU the engine takes a
core for as long as its workers compute: a core that decodes pictures, answers other requests, or
computes.
"""

import time
from typing import Any

# A notice is dropped when the one before is still under way. So nobody sleeps longer than this
# share of what has been waited already, or this many milliseconds, without another look.
_SHARE = 0.1
_SHORTEST = 4


def sleep_until_noticed() -> None:
    """Makes this process sleep at once. Changes nothing where there is no CPU backend.

    May be called any number of times. Checked on vLLM 0.32.0.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

    wait = SpinCondition.wait
    if wait.__module__ == __name__:
        return

    def sleep(condition: Any, timeout_ms: int | None = None) -> None:
        condition.busy_loop_s = -1.0  # seconds since the last message in which it does not sleep
        waited = 1000 * (time.monotonic() - condition.last_read)
        longest = max(_SHORTEST, int(_SHARE * waited))
        wait(condition, longest if timeout_ms is None else min(longest, timeout_ms))

    SpinCondition.wait = sleep

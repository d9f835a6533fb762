"""Patches vLLM's `SpinCondition` to block instead of busy-polling, where workers run on a CPU.

The engine and its workers exchange messages through shared memory. A reader polls for a second
(`sched_yield` in between) before it blocks until the writer's notice. Beside a GPU that costs
nothing that matters. On a CPU the engine core takes a core for as long as its workers compute: a
core that decodes images, answers other requests, or computes.

Replaces `SpinCondition.wait` and writes `busy_loop_s`: a setting of vLLM's for how long a reader
polls would make this unnecessary.
"""

import os
import time
from typing import Any

from saccade.model.cpu.tuning import cpu_tuning_enabled

# A notice is dropped when the one before is still under way. So nobody sleeps longer than this
# share of what has been waited already, or this many milliseconds, without another look.
_SHARE = 0.1
_SHORTEST = 4

# vLLM's own method, while ours is in its place.
_replaced: Any = None


def block_instead_of_spin() -> None:
    """Makes this process sleep at once, if `cpu_tuning_enabled`; one that it forks does not.

    For processes that serve our model. May be called any number of times.
    """
    global _replaced
    if _replaced is not None or not cpu_tuning_enabled():
        return
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

    wait = _replaced = SpinCondition.wait

    def block(condition: Any, timeout_ms: int | None = None) -> None:
        condition.busy_loop_s = -1.0  # seconds since the last message in which it does not sleep
        waited = 1000 * (time.monotonic() - condition.last_read)
        longest = max(_SHORTEST, int(_SHARE * waited))
        wait(condition, longest if timeout_ms is None else min(longest, timeout_ms))

    SpinCondition.wait = block


def spin_again() -> None:
    """Puts vLLM's own method back."""
    global _replaced
    if _replaced is None:
        return
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

    SpinCondition.wait, _replaced = _replaced, None


# A process that has served our model may start an engine for another one by forking.
os.register_at_fork(after_in_child=spin_again)

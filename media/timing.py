"""Where the time of loading media goes, stage by stage."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Stage = Literal["fetch", "queue", "plan", "decode", "resize"]
"""``queue``: waiting for memory and for a thread. A clip's ``decode`` includes its resizing."""

Observer = Callable[[Stage, float], None]
"""Told of every stage that ended, however it ended, and its seconds. Called from any thread."""


def ignore(_stage: Stage, _seconds: float) -> None:
    """The observer that does nothing."""


@contextmanager
def timed(observe: Observer, stage: Stage) -> Iterator[None]:
    """Tells ``observe`` how long the block took."""
    started = time.perf_counter()
    try:
        yield
    finally:
        observe(stage, time.perf_counter() - started)

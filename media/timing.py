"""Measures the stages of loading an image or video."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Stage = Literal["fetch", "queue", "plan", "decode", "resize"]
"""``queue``: waiting for memory and for a thread. A video's ``decode`` includes its resizing."""

Observer = Callable[[Stage, float], None]
"""Callback: (stage, seconds), once a stage has ended, with an error too. Called from any thread."""


def ignore(_stage: Stage, _seconds: float) -> None:
    """The observer that does nothing."""


@contextmanager
def timed(observe: Observer, stage: Stage) -> Iterator[None]:
    """Reports the seconds of the block to ``observe``."""
    started = time.perf_counter()
    try:
        yield
    finally:
        observe(stage, time.perf_counter() - started)

"""Measures the stages of loading an image or video: in metrics, and in the trace of its request."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from opentelemetry import trace
from prometheus_client import Histogram

Stage = Literal["fetch", "queue", "plan", "decode", "resize"]
"""``queue``: waiting for memory and for a thread. A video's ``decode`` includes its resizing."""

_STAGE_SECONDS = Histogram(
    "saccade_media_stage_seconds",
    "Stages of loading one image or video: fetch, queue, plan, decode, resize",
    ["stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_TRACER = trace.get_tracer("saccade.media")
_NANOSECONDS = 1e9


def observe_stage(stage: Stage, seconds: float) -> None:
    """Counts one stage of one medium, just ended; traced, a span below its request.

    From any thread.
    """
    _STAGE_SECONDS.labels(stage).observe(seconds)
    if trace.get_current_span().is_recording():
        end = time.time_ns()
        span = _TRACER.start_span(stage, start_time=end - int(seconds * _NANOSECONDS))
        span.end(end)


@contextmanager
def timed(stage: Stage) -> Iterator[None]:
    """Counts the seconds of the block, also where it fails."""
    started = time.perf_counter()
    try:
        yield
    finally:
        observe_stage(stage, time.perf_counter() - started)

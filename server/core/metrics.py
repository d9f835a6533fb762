"""Prometheus metrics of the front end, served at /metrics beside vLLM's own."""

from prometheus_client import Counter, Gauge, Histogram

from saccade.media.timing import Stage
from saccade.server.core.tracing import trace_stage

REQUESTS_IN_FLIGHT = Gauge(
    "saccade_requests_in_flight",
    "API requests between their first byte and the last byte of their answer",
    multiprocess_mode="livesum",
)
TASKS = Gauge(
    "saccade_tasks",
    "asyncio tasks alive when the last request had ended; should return to a constant",
    multiprocess_mode="livesum",
)
MEDIA_LOADING = Gauge(
    "saccade_media_loading",
    "Images and videos being fetched or decoded",
    multiprocess_mode="livesum",
)
MEDIA_HANDLES = Gauge(
    "saccade_media_handles",
    "Decoded images and videos that the engine has not taken yet",
    multiprocess_mode="livesum",
)
ADMITTED = Counter("saccade_admitted", "Admitted requests")
REFUSED = Counter(
    "saccade_refused",
    "Rejected requests by reason: queue_full, queue_timeout (retry), "
    "context_length_exceeded, request_too_large (never served)",
    ["reason"],
)
IN_FLIGHT_TOKENS = Gauge(
    "saccade_in_flight_tokens",
    "Tokens charged to admitted requests, until the last byte of their answer",
    multiprocess_mode="livesum",
)
QUEUED_REQUESTS = Gauge(
    "saccade_queued_requests",
    "Requests that fetch their media or wait in the admission queue",
    multiprocess_mode="livesum",
)
ADMISSION_WAIT = Histogram(
    "saccade_admission_wait_seconds",
    "From the known estimate to admission",
    buckets=(0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60),
)
for _reason in ("queue_full", "queue_timeout", "context_length_exceeded", "request_too_large"):
    REFUSED.labels(_reason)  # shows as 0 until it happens
_STAGE_SECONDS = Histogram(
    "saccade_media_stage_seconds",
    "Stages of loading one image or video: fetch, queue, plan, decode, resize",
    ["stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
FIRST_TOKEN_SECONDS = Histogram(
    "saccade_first_token_seconds",
    "From a streaming request to its first event: media, waiting and prefill included",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
_MEDIA_BYTES = Counter("saccade_media_bytes", "Bytes of images and videos as sent", ["kind"])
_MEDIA_PIXELS = Counter("saccade_media_pixels", "Pixels that the model was shown", ["kind"])
_MEDIA_FRAMES = Counter("saccade_media_frames", "Images and frames that were shown", ["kind"])
_VISUAL_TOKENS = Counter("saccade_visual_tokens", "Prompt tokens of media", ["kind"])


def count_fetched(kind: str, size: int) -> None:
    """Count one image or video that has been fetched or was sent along; bytes, encoded."""
    _MEDIA_BYTES.labels(kind).inc(size)


def count_shown(kind: str, frames: int, pixels: int, tokens: int) -> None:
    """Count one loaded image or video; ``pixels`` of all its frames."""
    _MEDIA_FRAMES.labels(kind).inc(frames)
    _MEDIA_PIXELS.labels(kind).inc(pixels)
    _VISUAL_TOKENS.labels(kind).inc(tokens)


def observe_stage(stage: Stage, seconds: float) -> None:
    """Count one stage of one medium, and put it into the request's trace."""
    _STAGE_SECONDS.labels(stage).observe(seconds)
    trace_stage(stage, seconds)

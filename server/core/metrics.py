"""Prometheus metrics of the front end, served at /metrics beside vLLM's own."""

from prometheus_client import Counter, Gauge, Histogram

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
FIRST_TOKEN_SECONDS = Histogram(
    "saccade_first_token_seconds",
    "From a streaming request to its first event: media, waiting and prefill included",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
MEDIA_BYTES = Counter("saccade_media_bytes", "Bytes of images and videos as sent", ["kind"])
MEDIA_CACHED = Counter(
    "saccade_media_cached",
    "Images and videos that the engine had, and that were not decoded",
    ["kind"],
)
MEDIA_PIXELS = Counter("saccade_media_pixels", "Pixels that the model was shown", ["kind"])
MEDIA_FRAMES = Counter("saccade_media_frames", "Images and frames that were shown", ["kind"])
VISUAL_TOKENS = Counter("saccade_visual_tokens", "Prompt tokens of media", ["kind"])
for _kind in ("image", "video"):
    MEDIA_CACHED.labels(_kind)  # shows as 0 until it happens

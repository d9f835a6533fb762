"""Prometheus metrics of the front end, served at /metrics beside vLLM's own."""

from prometheus_client import Gauge

REQUESTS_IN_FLIGHT = Gauge(
    "saccade_requests_in_flight",
    "API requests between their first byte and the last byte of their answer",
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

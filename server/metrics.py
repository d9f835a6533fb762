"""Prometheus metrics of the front end, served at /metrics beside vLLM's own."""

from prometheus_client import Counter, Gauge, Histogram

from saccade.media.stages import Stage

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
_STAGE_SECONDS = Histogram(
    "saccade_media_stage_seconds",
    "Stages of loading one image or video: fetch, queue, plan, decode, resize",
    ["stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_MEDIA_PIXELS = Counter("saccade_media_pixels", "Pixels that the model was shown", ["kind"])
_MEDIA_FRAMES = Counter("saccade_media_frames", "Images and frames that were shown", ["kind"])
_VISUAL_TOKENS = Counter("saccade_visual_tokens", "Prompt tokens of media", ["kind"])


def count_shown(kind: str, frames: int, pixels: int, tokens: int) -> None:
    """Count one loaded image or video; ``pixels`` of all its frames."""
    _MEDIA_FRAMES.labels(kind).inc(frames)
    _MEDIA_PIXELS.labels(kind).inc(pixels)
    _VISUAL_TOKENS.labels(kind).inc(tokens)


def observe_stage(stage: Stage, seconds: float) -> None:
    """Count one stage of one medium."""
    _STAGE_SECONDS.labels(stage).observe(seconds)

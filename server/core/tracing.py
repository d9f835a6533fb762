"""OpenTelemetry: where spans go, and the spans of a medium's stages.

vLLM sets up the exporter when it is told an endpoint; here is what tells it, by OpenTelemetry's own
variables. Without an endpoint nothing of this does anything.
"""

import os
import time
from argparse import Namespace

from opentelemetry import trace

from saccade.media.timing import Stage

_TRACER = trace.get_tracer("saccade.media")
_NANOSECONDS = 1e9


def configure_tracing(arguments: Namespace) -> None:
    """Takes the endpoint from OpenTelemetry's variables where ``--otlp-traces-endpoint`` is not
    given. The protocol is grpc unless ``OTEL_EXPORTER_OTLP_PROTOCOL`` says http/protobuf."""
    environment = os.environ
    if protocol := environment.get("OTEL_EXPORTER_OTLP_PROTOCOL"):
        environment.setdefault("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol)
    if not arguments.otlp_traces_endpoint:
        endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        if not endpoint and (base := environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")):
            http = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") == "http/protobuf"
            endpoint = base.rstrip("/") + "/v1/traces" if http else base
        arguments.otlp_traces_endpoint = endpoint
    if arguments.otlp_traces_endpoint:
        environment.setdefault("OTEL_SERVICE_NAME", "saccade")


def trace_stage(stage: Stage, seconds: float) -> None:
    """A span for a stage that has just ended, below the request's."""
    if trace.get_current_span().is_recording():
        end = time.time_ns()
        span = _TRACER.start_span(stage, start_time=end - int(seconds * _NANOSECONDS))
        span.end(end)

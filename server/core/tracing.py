"""OpenTelemetry: where spans go.

vLLM sets up the exporter when it is told an endpoint; here is what tells it, by OpenTelemetry's own
variables. Without an endpoint nothing of this does anything.
"""

import os
from argparse import Namespace


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

"""The observing layer by itself: what it does where no server can be made to fail, or to tell."""

from argparse import Namespace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.requests import Request

from saccade.media import timing
from saccade.media.timing import observe_stage
from saccade.server.core.tracing import configure_tracing
from saccade.server.middleware import outermost
from saccade.server.middleware.outermost import OutermostMiddleware

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("begun", [False, True])
async def test_our_own_bugs_have_an_id_and_a_line(caplog, begun):
    async def broken(scope, receive, send):
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise OSError("/secret/path")

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "headers": [], "raw_path": b"/a%0Ab", "path": "/a\nb"}
    app = OutermostMiddleware(broken, log_access=True, unlogged=(), traced=False)
    caplog.set_level("INFO", "saccade")
    if begun:  # the server below cuts the connection
        with pytest.raises(OSError, match="secret"):
            await app(scope, None, send)
    else:
        await app(scope, None, send)
        assert b"secret" not in sent[1]["body"]
    assert b"x-request-id" in dict(sent[0]["headers"])
    told = caplog.records[-1]
    assert (told.route, told.status) == ("/a%0Ab", 500)


def spans_of(monkeypatch, traced):
    """What is exported of one request of a traced client; the headers that the route sees."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(outermost, "_TRACER", provider.get_tracer("test"))
    monkeypatch.setattr(timing, "_TRACER", provider.get_tracer("test"))
    seen = {}

    async def route(scope, receive, send):
        seen.update(Request(scope).headers)
        observe_stage("fetch", 0.5)
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b"-"})

    async def send(message):
        pass

    app = OutermostMiddleware(route, log_access=False, unlogged=(), traced=traced)
    given = [(b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())]
    scope = {"type": "http", "method": "GET", "headers": given, "raw_path": b"/x"}
    return app(scope, None, send), exporter, seen


async def test_the_callers_trace_goes_on_through_ours(monkeypatch):
    request, exporter, seen = spans_of(monkeypatch, traced=True)
    await request
    stage, span = exporter.get_finished_spans()
    assert (stage.name, span.name) == ("fetch", "GET /x")
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert stage.parent.span_id == span.context.span_id
    assert stage.end_time - stage.start_time == 500_000_000
    assert span.attributes["http.response.status_code"] == 503
    assert not span.status.is_ok
    # What vLLM will continue, and which id it will take.
    assert seen["traceparent"] == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert seen["x-request-id"] == span.attributes["saccade.request_id"]


async def test_no_spans_unless_traced(monkeypatch):
    request, exporter, seen = spans_of(monkeypatch, traced=False)
    await request
    assert exporter.get_finished_spans() == ()
    assert seen["traceparent"] == f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("environment", "flag", "endpoint"),
    [
        ({}, None, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317"}, None, "http://a:4317"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317"}, "http://b:1", "http://b:1"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318/",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            None,
            "http://a:4318/v1/traces",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:1",
            },
            None,
            "http://c:1",
        ),
    ],
)
def test_where_traces_go(monkeypatch, environment, flag, endpoint):
    for name in ("SERVICE_NAME", "EXPORTER_OTLP_TRACES_PROTOCOL"):
        monkeypatch.setenv(f"OTEL_{name}", "")  # so that it is taken back
        monkeypatch.delenv(f"OTEL_{name}")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    arguments = Namespace(otlp_traces_endpoint=flag)
    configure_tracing(arguments)
    assert arguments.otlp_traces_endpoint == endpoint

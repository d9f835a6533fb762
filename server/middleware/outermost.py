"""Around every request: its id, the headers of every answer, access log, trace span.

Every request gets an id, which its answer carries as ``X-Request-Id`` and vLLM takes over; a line
in the log when it has ended; a span where traces are collected. None of them holds text of the
client's. Every answer carries headers that keep browsers from doing more with it than read it.

asgi-correlation-id (5.0) would take over the id's four lines, at the price of a wrapped ``send`` of
its own, a warning in the log for every id that a client sends and we refuse, and another name for
the log's field ``request_id``.
"""

import asyncio
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from uuid import uuid4

from opentelemetry import propagate, trace
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from saccade.server.core.errors import CLIENT_CLOSED_REQUEST, as_api_error, error_response
from saccade.server.core.metrics import FIRST_TOKEN_SECONDS, TASKS
from saccade.server.core.request_context import CURRENT_REQUEST, RequestRecord
from saccade.server.core.routes import API_PREFIXES, ROUTES, path_of, speaks_messages

logger = logging.getLogger("saccade.access")

REQUEST_ID_HEADER = "X-Request-Id"
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
# No white space, quotes or signs that a log, a header or a shell could take for its own.
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PROBED = frozenset(route.path for route in ROUTES if route.probed)
_MOST_OF_A_PATH = 128  # characters of a path that is none of ours
_TRACER = trace.get_tracer("saccade.server")


class OutermostMiddleware:
    """The outermost layer of the application.

    Args:
        log_access: write a line for every request.
        unlogged: routes without that line.
        traced: make a span for every request; its context goes on to vLLM.
    """

    def __init__(
        self, app: ASGIApp, log_access: bool, unlogged: Sequence[str], traced: bool
    ) -> None:
        self._app = app
        self._log_access = log_access
        self._unlogged = frozenset(unlogged)
        self._traced = traced

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = MutableHeaders(scope=scope)
        given = headers.get(REQUEST_ID_HEADER, "")
        record = RequestRecord(given if _SANE_ID.fullmatch(given) else uuid4().hex)
        headers[REQUEST_ID_HEADER] = record.id  # vLLM reads it here
        token = CURRENT_REQUEST.set(record)
        answer = _Answer(scope, send, record)
        try:
            with _span(headers, answer) if self._traced else nullcontext():
                try:
                    await self._app(scope, receive, answer.send)
                except Exception as error:
                    if answer.status is not None:
                        answer.failed = True
                        raise  # the answer has begun: all that is left is to cut it off
                    await error_response(as_api_error(error))(scope, receive, answer.send)
        finally:
            if self._log_access and answer.route not in self._unlogged:
                answer.log()
            CURRENT_REQUEST.reset(token)
            TASKS.set(len(asyncio.all_tasks()))


class _Answer:
    """Passes an answer on, with our headers; sees when it begins and how it ends."""

    def __init__(self, scope: Scope, send: Send, record: RequestRecord) -> None:
        self.scope = scope
        self.record = record
        self._send = send
        self._events = False
        self._complete = False
        self.failed = False  # by our own fault, in mid answer
        self.began = time.perf_counter()
        self.status: int | None = None
        self.first_byte: float | None = None  # seconds after the beginning

    @property
    def final_status(self) -> int:
        """The status that counts: of an answer cut off by its client, nginx's for that."""
        if self.failed:
            return 500
        return self.status if self.status and self._complete else CLIENT_CLOSED_REQUEST

    @property
    def route(self) -> str:
        """The route as it was declared; the path as sent, without its query, if there is none."""
        if (route := self.scope.get("route")) is not None:
            return str(route.path)
        raw: bytes = self.scope.get("raw_path") or b""
        return raw.decode("ascii", "replace")[:_MOST_OF_A_PATH]

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            headers[REQUEST_ID_HEADER] = self.record.id
            if speaks_messages(self.scope):
                headers["request-id"] = self.record.id
            for name, value in _SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if path_of(self.scope).startswith(API_PREFIXES):  # nobody's to store
                headers.setdefault("Cache-Control", "no-store")
            self._events = headers.get("content-type", "").startswith("text/event-stream")
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            # What keeps a connection alive is a comment, not yet an event.
            begins = body.startswith(b"data:") if self._events else bool(body)
            if begins and self.first_byte is None:
                self.first_byte = time.perf_counter() - self.began
                if self._events:
                    FIRST_TOKEN_SECONDS.observe(self.first_byte)
            self._complete = not message.get("more_body", False)
        await self._send(message)

    def log(self) -> None:
        route, status, method = self.route, self.final_status, self.scope["method"]
        level = logging.DEBUG if route in _PROBED and status < 400 else logging.INFO
        if not logger.isEnabledFor(level):
            return
        numbers: dict[str, int | float] = {"seconds": round(time.perf_counter() - self.began, 4)}
        if self.first_byte is not None:
            numbers["first_byte_seconds"] = round(self.first_byte, 4)
        numbers |= self.record.numbers
        told = ", ".join(f"{name} {value}" for name, value in numbers.items())
        fields = {"method": method, "route": route, "status": status, **numbers}
        logger.log(level, "%s %s %d, %s", method, route, status, told, extra=fields)


@contextmanager
def _span(headers: MutableHeaders, answer: _Answer) -> Iterator[None]:
    """A span for a request, which ``headers`` carry on to vLLM."""
    method = answer.scope["method"]
    with _TRACER.start_as_current_span(
        method,
        propagate.extract(headers),
        trace.SpanKind.SERVER,
        record_exception=False,  # its text may hold the client's
        set_status_on_exception=False,
    ) as span:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        for name, value in carrier.items():
            headers[name] = value
        try:
            yield
        finally:
            status, route = answer.final_status, answer.route
            span.update_name(f"{method} {route}")
            span.set_attribute("http.request.method", method)
            span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)
            span.set_attribute("saccade.request_id", answer.record.id)
            for name, number in answer.record.numbers.items():
                span.set_attribute(f"saccade.{name}", number)
            if status >= 500:
                span.set_status(trace.StatusCode.ERROR)

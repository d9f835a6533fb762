"""Request id, access log, trace span.

Every request gets an id, which its answer carries as ``X-Request-Id`` and vLLM takes over; a line
in the log when it has ended; a span where traces are collected. None of them holds text of the
client's.
"""

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from uuid import uuid4

from opentelemetry import propagate, trace
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from saccade.server.core.errors import CLIENT_CLOSED_REQUEST, as_api_error, error_response
from saccade.server.core.metrics import FIRST_TOKEN_SECONDS, TASKS
from saccade.server.core.request_context import CURRENT_REQUEST, RequestRecord
from saccade.server.core.routes import ROUTES

logger = logging.getLogger("saccade.access")

REQUEST_ID_HEADER = "X-Request-Id"
# No white space, quotes or signs that a log, a header or a shell could take for its own.
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PROBED = frozenset(route.path for route in ROUTES if route.probed)
_MOST_OF_A_PATH = 128  # characters of a path that is none of ours
_TRACER = trace.get_tracer("saccade.server")


class ObservationMiddleware:
    """Within the security headers, the outermost layer of the application.

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
        observer = _ResponseObserver(send, record.id)
        try:
            if self._traced:
                await self._run_traced(scope, receive, observer, headers, record)
            else:
                await self._run(scope, receive, observer)
        finally:
            if self._log_access:
                self._log(scope, observer, record)
            CURRENT_REQUEST.reset(token)
            TASKS.set(len(asyncio.all_tasks()))

    async def _run(self, scope: Scope, receive: Receive, observer: "_ResponseObserver") -> None:
        try:
            await self._app(scope, receive, observer.send)
        except Exception as error:
            if observer.status is not None:
                observer.failed = True
                raise  # the answer has begun: all that is left is to cut it off
            await error_response(as_api_error(error))(scope, receive, observer.send)

    async def _run_traced(
        self,
        scope: Scope,
        receive: Receive,
        observer: "_ResponseObserver",
        headers: MutableHeaders,
        record: RequestRecord,
    ) -> None:
        with _TRACER.start_as_current_span(
            scope["method"],
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
                await self._run(scope, receive, observer)
            finally:
                status, route = observer.final_status, _route(scope)
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.request.method", scope["method"])
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)
                span.set_attribute("saccade.request_id", record.id)
                for name, number in record.numbers.items():
                    span.set_attribute(f"saccade.{name}", number)
                if status >= 500:
                    span.set_status(trace.StatusCode.ERROR)

    def _log(self, scope: Scope, observer: "_ResponseObserver", record: RequestRecord) -> None:
        route, status = _route(scope), observer.final_status
        if route in self._unlogged:
            return
        level = logging.DEBUG if route in _PROBED and status < 400 else logging.INFO
        if not logger.isEnabledFor(level):
            return
        fields: dict[str, str | int | float] = {
            "method": scope["method"],
            "route": route,
            "status": status,
            "seconds": round(time.perf_counter() - observer.began, 4),
        }
        if observer.first_byte is not None:
            fields["first_byte_seconds"] = round(observer.first_byte, 4)
        fields |= record.numbers
        told = ", ".join(f"{name} {value}" for name, value in list(fields.items())[3:])
        logger.log(level, "%s %s %d, %s", scope["method"], route, status, told, extra=fields)


class _ResponseObserver:
    """Passes an answer on, and sees when it begins and how it ends."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
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

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            headers[REQUEST_ID_HEADER] = self._request_id
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


def _route(scope: Scope) -> str:
    """The route as it was declared; the path as sent, without its query, if there is none."""
    if (route := scope.get("route")) is not None:
        return str(route.path)
    raw: bytes = scope.get("raw_path") or b""
    return raw.decode("ascii", "replace")[:_MOST_OF_A_PATH]

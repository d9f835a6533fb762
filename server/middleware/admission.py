"""What a request passes before it is read: how many headers it may have, whether the server still
takes requests, and its ticket where it runs the model or fetches media."""

from starlette.types import ASGIApp, Receive, Scope, Send

from saccade.server.admission.controller import TICKET, Admission, Overloaded
from saccade.server.core.errors import ApiError, error_response
from saccade.server.core.lifecycle import Lifecycle
from saccade.server.core.routes import API_PREFIXES, ROUTES, path_of

_ADMITTED = frozenset(route.path for route in ROUTES if route.admitted)
# A body that does not tell its length, as a client may send it.
_UNTOLD_BYTES = 2**20
# vLLM takes a request's priority from here; ours is its class.
_PRIORITY_HEADER = b"x-vllm-priority"
# For who is refused unread: by a server that is leaving, for instance.
_CLOSE = {"Connection": "close"}


class TooManyHeaders(ApiError):
    """More than anybody sends who means well."""

    status = 431
    code = "too_many_headers"


class AdmissionMiddleware:
    """Refuses requests unread, or lets them in: counted, with a ticket until the last byte is sent.

    Args:
        lifecycle: counts the requests of the API, and refuses them when the server drains.
        admission: gives out tickets, and refuses when too many wait.
        most_headers: of any request; their bytes the HTTP parser bounds.
    """

    def __init__(
        self, app: ASGIApp, lifecycle: Lifecycle, admission: Admission, most_headers: int
    ) -> None:
        self._app = app
        self._lifecycle = lifecycle
        self._admission = admission
        self._most_headers = most_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, headers = path_of(scope), scope["headers"]
        is_api, ticket = path.startswith(API_PREFIXES), None
        refusal = self._lifecycle.refusal if is_api else None
        if len(headers) > self._most_headers:
            refusal = TooManyHeaders(f"a request may have {self._most_headers} headers")
        elif refusal is None and scope["method"] == "POST" and path in _ADMITTED:
            length = dict(headers).get(b"content-length", b"")
            try:
                ticket = self._admission.arrive(int(length) if length.isdigit() else _UNTOLD_BYTES)
            except Overloaded as error:
                refusal = error
            headers = [pair for pair in headers if pair[0].lower() != _PRIORITY_HEADER]
            scope.update({"headers": headers, TICKET: ticket})
        if refusal is not None:
            response = error_response(refusal, getattr(refusal, "headers", _CLOSE))
            await response(scope, receive, send)
            return
        if is_api:
            self._lifecycle.begin()
        try:
            await self._app(scope, receive, send)
        finally:
            if ticket is not None:
                self._admission.release(ticket)
            if is_api:
                self._lifecycle.end()

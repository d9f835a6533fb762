"""The ticket of every request that runs the model or fetches media, until its last byte is sent."""

from starlette.types import ASGIApp, Receive, Scope, Send

from saccade.server.admission.controller import TICKET, Admission, Overloaded
from saccade.server.core.errors import error_response
from saccade.server.core.routes import ROUTES, path_of

_PATHS = frozenset(route.path for route in ROUTES if route.admitted)
# A body that does not tell its length, as a client may send it.
_UNTOLD_BYTES = 2**20
# vLLM takes a request's priority from here; ours is its class.
_PRIORITY_HEADER = b"x-vllm-priority"


class AdmissionMiddleware:
    """Gives each request its ticket and takes it back; rejects it unread when too many wait."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or path_of(scope) not in _PATHS:
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"")
        try:
            ticket = self._admission.arrive(int(length) if length.isdigit() else _UNTOLD_BYTES)
        except Overloaded as error:
            await error_response(error, error.headers)(scope, receive, send)
            return
        headers = [pair for pair in scope["headers"] if pair[0].lower() != _PRIORITY_HEADER]
        try:
            await self._app({**scope, "headers": headers, TICKET: ticket}, receive, send)
        finally:
            self._admission.release(ticket)

"""Headers: how many a request may have, and those that every answer gets."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from saccade.server.errors import ApiError, error_response
from saccade.server.security import is_guarded

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class TooManyHeaders(ApiError):
    """More than anybody sends who means well."""

    status = 431
    code = "too_many_headers"


class HeaderCountMiddleware:
    """Refuses requests with more than ``most`` headers; their bytes the HTTP parser bounds."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and len(scope["headers"]) > self._most:
            error = TooManyHeaders(f"a request may have {self._most} headers")
            await error_response(error, {"Connection": "close"})(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class SecurityHeadersMiddleware:
    """Keeps browsers from doing more with an answer than read it.

    Adds the headers that the answer does not carry already. Answers of the API are nobody's to
    store.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
                if is_guarded(scope):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)

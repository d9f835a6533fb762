"""How many headers a request may have."""

from starlette.types import ASGIApp, Receive, Scope, Send

from saccade.server.core.errors import ApiError, error_response


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

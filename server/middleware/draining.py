"""Counts the API requests under way; rejects new ones while the server drains or has failed."""

from starlette.types import ASGIApp, Receive, Scope, Send

from saccade.server.core.errors import error_response
from saccade.server.core.lifecycle import Lifecycle
from saccade.server.core.routes import is_api, path_of


class DrainingMiddleware:
    """Counts the API requests under way; refuses new ones when the server is on its way out."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self._app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_api(path_of(scope)):
            await self._app(scope, receive, send)
        elif (error := self._lifecycle.refusal()) is not None:
            # The connection must not be kept for a next request to a server that is leaving.
            response = error_response(error, {"Connection": "close"})
            await response(scope, receive, send)
        else:
            self._lifecycle.begin()
            try:
                await self._app(scope, receive, send)
            finally:
                self._lifecycle.end()

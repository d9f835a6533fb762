"""API keys."""

import hashlib
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from saccade.server.core.errors import Unauthenticated, error_response
from saccade.server.core.request_context import CALLER
from saccade.server.core.routes import API_PREFIXES, path_of


class ApiKeyMiddleware:
    """Lets requests for the API through only with one of ``keys``: as Bearer token, or in
    ``x-api-key``, where Anthropic's clients send it.

    Every key is compared, each in constant time, so that the time of a refusal tells nothing.
    Browsers' preflight requests (OPTIONS) carry no key and pass.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        # Digests of one length: the comparison cannot tell how long the keys are.
        self._digests = [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asks = scope["type"] == "http" and scope["method"] != "OPTIONS"
        if asks and path_of(scope).startswith(API_PREFIXES):
            headers = Headers(scope=scope)
            given = headers.get("authorization", "")
            scheme, _, key = given.partition(" ")
            if not given and (other := headers.get("x-api-key", "")):
                given, scheme, key = other, "bearer", other
            if scheme.lower() != "bearer" or not self._knows(key.strip()):
                told = "the API key is wrong" if given else "an API key is needed"
                error = Unauthenticated(f"{told}: send 'Authorization: Bearer KEY'")
                response = error_response(error, {"WWW-Authenticate": "Bearer"})
                await response(scope, receive, send)
                return
            scope[CALLER] = _digest(key.strip()).hex()
        await self._app(scope, receive, send)

    def _knows(self, key: str) -> bool:
        digest = _digest(key)
        known = False
        for candidate in self._digests:
            known |= hmac.compare_digest(digest, candidate)
        return known


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()

"""An answer that is sent event by event."""

from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from saccade.server.http.connection import while_connected


class EventStream(StreamingResponse):
    """Server-sent events, sent in the task of their request, which ends when the client leaves.

    Starlette sends in a task of its own. The engine hears of the request when that asks for the
    first event: a turn of the event loop later. And when the client leaves, a cycle of references
    is left of that task, with the prompt in it, media and all.
    """

    def __init__(self, events: AsyncIterator[str]) -> None:
        super().__init__(
            events,
            media_type="text/event-stream",
            # Proxies that collect an answer before they pass it on would undo the streaming.
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer."""
        with suppress(ClientDisconnect):
            await while_connected(Request(scope, receive), self.stream_response(send))

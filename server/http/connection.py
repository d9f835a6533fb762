"""The request body in, bounded; work that ends when the client leaves or the engine dies; and
answers that are sent event by event."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pydantic_core
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from saccade.server.core.errors import (
    ApiError,
    BodyTimeout,
    EngineDied,
    InvalidRequest,
    RequestTooLarge,
)

# Seconds: for a whole body, and without a byte of it.
_BODY_SECONDS = 600.0
_IDLE_SECONDS = 30.0


async def read_json(
    request: Request,
    max_bytes: int,
    total_seconds: float = _BODY_SECONDS,
    idle_seconds: float = _IDLE_SECONDS,
) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        BodyTimeout: it took longer than ``total_seconds``, or paused for ``idle_seconds``.
        ApiError: not declared as JSON (415, so that a web page cannot post here unasked), or
            compressed.
        RequestTooLarge: larger than ``max_bytes``; found out before it is all read.
        InvalidRequest: not JSON, or not an object.
    """
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared != "application/json":
        raise ApiError("the Content-Type must be application/json", status=415)
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise ApiError(
            f"bodies with the Content-Encoding {coding[:32]!r} are not read; send it as it is",
            status=415,
        )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    now = asyncio.get_running_loop().time
    end = now() + total_seconds
    try:
        async with asyncio.timeout_at(min(end, now() + idle_seconds)) as patience:
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
                patience.reschedule(min(end, now() + idle_seconds))
    except TimeoutError:
        raise BodyTimeout("the body of the request did not arrive in time") from None
    try:
        value = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object", code="invalid_json")
    return value


def _too_large(max_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"the request is larger than the limit of {max_bytes} bytes")


@contextmanager
def while_connected(
    request: Request, engine_death: asyncio.Future[None] | None = None
) -> Iterator[None]:
    """Cancels what is awaited within when the client leaves or the engine dies before.

    The body must have been read: whatever else the client sends is dropped.

    Raises:
        ClientDisconnect: the client left; the work has ended by then.
        EngineDied: likewise.
    """
    task = asyncio.current_task()
    assert task is not None
    gone: list[type[Exception]] = []

    def cancel(why: type[Exception]) -> None:
        if not gone:
            gone.append(why)
            task.cancel()

    def died(_: asyncio.Future[None]) -> None:
        cancel(EngineDied)

    async def watch_client() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        cancel(ClientDisconnect)

    watch = asyncio.ensure_future(watch_client())
    if engine_death is not None:
        engine_death.add_done_callback(died)
    try:
        yield
    except (asyncio.CancelledError, Exception):
        if not gone or task.cancelling() > 1:  # by somebody else, too
            raise
        raise gone[0] from None
    finally:
        watch.cancel()
        if engine_death is not None:
            engine_death.remove_done_callback(died)
        if gone:
            task.uncancel()


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
        with suppress(ClientDisconnect), while_connected(Request(scope, receive)):
            await self.stream_response(send)

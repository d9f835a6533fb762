"""Clients that take their time with the request line and the headers, on real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from saccade.server.engine.flags import add_engine_arguments, make_parser
from saccade.server.engine.launch import serve_until_stopped
from saccade.server.http.protocol import HeaderTimeoutProtocol

PATIENCE = 0.5  # seconds
WHOLE = b"GET /slow HTTP/1.1\r\nhost: test\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(HeaderTimeoutProtocol, "header_seconds", PATIENCE)
    app = FastAPI()
    app.state.engine_client = None

    @app.get("/slow")
    async def slow() -> str:
        await asyncio.sleep(2 * PATIENCE)
        return "done"

    parser = make_parser()
    add_engine_arguments(parser)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(serve_until_stopped(app, parser.parse_args([]), listening))
        yield listening.getsockname()[1]
        app.state.server.should_exit = True
        await serving


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"content-length: 6\r\n" in head
    return head + await reader.readexactly(6)


async def drip(writer: asyncio.StreamWriter) -> None:
    """A header now and then, for ever."""
    writer.write(b"GET /slow HTTP/1.1\r\n")
    number = 0
    while not writer.is_closing():
        writer.write(b"x-%d: a\r\n" % number)
        number += 1
        await asyncio.sleep(PATIENCE / 5)


async def test_headers_that_drip_are_given_up(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    dripping = asyncio.create_task(drip(writer))
    answer = await asyncio.wait_for(reader.read(), 30)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b"did not arrive in time")
    dripping.cancel()
    writer.close()


async def test_a_connection_without_a_byte_is_closed_without_one(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()


async def test_slow_answers_and_further_requests_have_their_time(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(WHOLE[:20])
        await asyncio.sleep(PATIENCE / 5)
        writer.write(WHOLE[20:])
        answer = await asyncio.wait_for(read_answer(reader), 30)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b'"done"')
    # One byte after an answer ends uvicorn's patience with the connection, not ours.
    writer.write(WHOLE[:1])
    answer = await asyncio.wait_for(reader.read(), 30)
    assert answer.startswith(b"HTTP/1.1 408 ")
    writer.close()

"""A small real HTTP server that streams like OpenAI's API, and misbehaves on request."""

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import fastapi
import pytest
import uvicorn
from fastapi.responses import JSONResponse, StreamingResponse
from PIL import Image

from saccade.media.controls import ImageControls
from saccade.media.planning.plan import PixelLimits, VisionGeometry, plan_image

TEXT_TOKENS = 21
PIECES = ("A ", "red ", "car")
PAUSE = 0.02  # seconds before every piece


@dataclass
class FakeServer:
    """Its address, what it will do to the next requests, and what it has seen."""

    url: str = ""
    behaviours: list[str] = field(default_factory=list)  # one a picture request; then all is well
    bodies: list[dict] = field(default_factory=list)
    active: int = 0
    most_active: int = 0
    healthy: bool = True


def visual_tokens(body: dict) -> int:
    tokens = 0
    for part in body["messages"][0]["content"]:
        if part["type"] == "image_url":
            data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
            width, height = Image.open(io.BytesIO(data)).size
            plan = plan_image(width, height, ImageControls(), VisionGeometry(), PixelLimits())
            tokens += plan.tokens
    return tokens


def event(value: object) -> str:
    return f"data: {json.dumps(value)}\n\n"


def choice(delta: dict, finish_reason: str | None = None) -> str:
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


async def answer(body: dict, behaviour: str) -> AsyncIterator[str]:
    yield choice({"role": "assistant", "content": ""})
    pieces = {"silent": (), "blue": ("A ", "blue ", "car")}.get(behaviour, PIECES)
    for piece in pieces:
        await asyncio.sleep(PAUSE)
        yield choice({"content": piece})
    if behaviour == "hang":
        await asyncio.Event().wait()
    if behaviour == "cut":
        return
    if behaviour == "stream_error":
        yield event({"error": {"message": "the engine died", "code": 500}})
        return
    if behaviour == "malformed":
        yield "data: {not json\n\n"
        return
    yield choice({}, "abort" if behaviour == "aborted" else "length")
    visual = visual_tokens(body)
    prompt = TEXT_TOKENS + visual + (2 if visual else 0) + (behaviour == "miscounted")
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": len(PIECES),
        "prompt_tokens_details": {"image_tokens": visual + (behaviour == "misdetailed")},
    }
    yield event({"choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def application(server: FakeServer) -> fastapi.FastAPI:
    app = fastapi.FastAPI()

    @app.get("/v1/models")
    async def models():
        return {"data": [{"id": "fake"}]}

    @app.get("/health")
    async def health():
        return JSONResponse({}, 200 if server.healthy else 503)

    @app.get("/version")
    async def version():
        return {"version": "1.2.3"}

    @app.post("/v1/chat/completions")
    async def chat(request: fastapi.Request):
        body = await request.json()
        server.bodies.append(body)
        pictured = visual_tokens(body) > 0
        behaviour = server.behaviours.pop(0) if pictured and server.behaviours else ""
        if behaviour.startswith("http_"):
            error = {"error": {"message": "too busy"}}
            return JSONResponse(error, int(behaviour.removeprefix("http_")))

        if not body.get("stream"):
            prompt = TEXT_TOKENS + visual_tokens(body) + (2 if pictured else 0)
            return {
                "choices": [{"message": {"content": "".join(PIECES)}, "logprobs": None}],
                "usage": {"prompt_tokens": prompt},
            }

        async def counted() -> AsyncIterator[str]:
            server.active += 1
            server.most_active = max(server.most_active, server.active)
            try:
                async for piece in answer(body, behaviour):
                    yield piece
            finally:
                server.active -= 1

        return StreamingResponse(counted(), media_type="text/event-stream")

    return app


@pytest.fixture
def fake_server() -> Iterator[FakeServer]:
    with running_server() as state:
        yield state


@pytest.fixture
def other_server() -> Iterator[FakeServer]:
    with running_server() as state:
        yield state


@contextmanager
def running_server() -> Iterator[FakeServer]:
    state = FakeServer()
    config = uvicorn.Config(application(state), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the fake server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    state.url = f"http://127.0.0.1:{port}"
    yield state
    server.should_exit = True
    server.force_exit = True  # a hanging answer must not hold the test up
    thread.join()

"""An OpenAI-compatible server that answers as a test wants, and what sends it batches."""

import asyncio
import json
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from saccade.server import cli
from saccade.server.commands.child import saccade_command


@dataclass
class BatchServer:
    """What it was sent, and how it answers. A request is known by its text."""

    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    arrivals: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    # Text to what comes before its answer: a status and headers each; status 0 hangs up.
    troubles: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)  # else "answer to TEXT"
    delay: float = 0.0  # s
    slots: int = 10**9  # more at a time get 429
    answered: int = 0
    answers_before_it_holds: int = 10**9
    active: int = 0
    most_active: int = 0

    @property
    def texts(self) -> list[str]:
        return [text for text, times in self.arrivals.items() for _ in times]


def text_of(body: dict[str, Any]) -> str:
    if "input" in body:
        return body["input"]
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def application(server: BatchServer) -> Starlette:
    async def chat(request: Request) -> Response:
        body = await request.json()
        text = text_of(body)
        server.headers.append(dict(request.headers))
        server.bodies.append(body)
        server.arrivals[text].append(time.time())
        server.active += 1
        server.most_active = max(server.most_active, server.active)
        try:
            return await answer(text)
        finally:
            server.active -= 1

    async def answer(text: str) -> Response:
        if server.active > server.slots:
            return JSONResponse({"error": {"message": "full"}}, 429)
        if server.troubles.get(text):
            status, headers = server.troubles[text].pop(0)
            if not status:
                # Fewer bytes than it says: uvicorn ends the connection.
                return Response(b"", headers={"Content-Length": "9"})
            return JSONResponse({"error": {"message": f"no: {text}"}}, status, headers)
        await asyncio.sleep(server.delay)
        # The test changes it from another thread.
        while server.answered >= server.answers_before_it_holds:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        server.answered += 1
        said = server.answers.get(text, f"answer to {text}")
        usage = {"prompt_tokens": 3, "completion_tokens": len(text)}
        answered = {"choices": [{"message": {"content": said}}], "usage": usage}
        headers = {"X-Request-Id": f"id of {text}"}
        # JSONResponse cannot encode lone surrogates.
        return Response(json.dumps(answered), headers=headers, media_type="application/json")

    async def responses(request: Request) -> Response:
        part = {"type": "output_text", "text": f"answer to {text_of(await request.json())}"}
        output = [{"type": "reasoning"}, {"type": "message", "content": [part]}]
        return JSONResponse({"output": output, "usage": {"input_tokens": 5, "output_tokens": 6}})

    async def models(_: Request) -> Response:
        return JSONResponse({"data": [{"id": "the-model"}]})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/responses", responses, methods=["POST"]),
            Route("/v1/models", models),
        ]
    )


@contextmanager
def running_batch_server() -> Iterator[BatchServer]:
    state = BatchServer()
    config = uvicorn.Config(application(state), port=0, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    state.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield state
    server.should_exit = True
    server.force_exit = True
    thread.join()


def line(custom_id: str, text: str | None = None) -> dict[str, Any]:
    """A chat request of a batch file."""
    message = {"role": "user", "content": custom_id if text is None else text}
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": [message]},
    }


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(one) for one in path.read_text(encoding="utf-8").splitlines()]


def batch(*arguments: object, url: str) -> int:
    """The command, in this process; returns its exit code."""
    given = [str(argument) for argument in arguments]
    return cli.main(["batch", *given, f"--url={url}", "--retry-delay=0.05"])


def start_batch(*arguments: object, url: str) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    given = [str(argument) for argument in arguments]
    return subprocess.Popen(
        [*saccade_command(), "batch", *given, f"--url={url}", "--retry-delay=0.05"],
        stderr=subprocess.PIPE,
        text=True,
    )

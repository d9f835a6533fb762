"""What `saccade batch` and `saccade chat` are tested with: HTTP servers, a terminal."""

import asyncio
import codecs
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import fastapi
import pytest
import uvicorn
from batch_server import BatchServer, running_batch_server
from fastapi.responses import JSONResponse, StreamingResponse

PIECES = ("A ", "red ", "car.")
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


@dataclass
class ChatServer:
    """Its address, what it says, and what it has seen."""

    url: str = ""
    pieces: Sequence[str] = PIECES
    finish_reason: str = "stop"
    behaviour: str = ""
    vision: dict | None = None  # set: it is a Saccade
    models: tuple[str, ...] = ("first", "second")
    bodies: list[dict] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)  # a stream, by the client

    def questions(self) -> list[list[tuple[str, object]]]:
        """(role, content) of the messages of each request."""
        return [
            [(each["role"], each["content"]) for each in body["messages"]] for body in self.bodies
        ]


def event(value: object) -> str:
    return f"data: {json.dumps(value)}\n\n"


def choice(delta: dict, finish_reason: str | None = None, **more: object) -> str:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return event({"model": "told", "choices": choices, **more})


async def answer(server: ChatServer) -> AsyncIterator[str]:
    yield choice({"role": "assistant", "content": ""})
    for piece in server.pieces:
        yield choice({"content": piece})
    if server.behaviour == "hang":
        try:
            await asyncio.Event().wait()
        finally:
            server.closed.set()
    if server.behaviour == "cut":
        return
    if server.behaviour == "drop":
        raise ConnectionAbortedError  # the answer's end never comes
    if server.behaviour == "stream_error":
        yield event({"error": {"message": "the engine died", "param": None, "code": 500}})
        return
    if server.behaviour == "stream_text":
        yield event({"error": "overloaded"})
        return
    if server.behaviour == "malformed":
        yield "data: {not json\n\n"
        return
    told = {"vision": server.vision} if server.vision else {}
    yield choice({}, server.finish_reason, **told)
    yield event({"choices": [], "usage": USAGE})
    yield "data: [DONE]\n\n"


def application(server: ChatServer) -> fastapi.FastAPI:
    app = fastapi.FastAPI()

    @app.get("/v1/models")
    async def models():
        return {"object": "list", "data": [{"id": name} for name in server.models]}

    @app.get("/version")
    async def version():
        return {"version": "1"} if server.vision is None else {"version": "1", "vllm": "2"}

    @app.post("/v1/chat/completions")
    async def chat(request: fastapi.Request):
        server.bodies.append(await request.json())
        server.asked.set()
        server.keys.append(request.headers.get("authorization", ""))
        if server.behaviour == "refuse":
            error = {"message": "must be\nbelow \x1b[31m9", "param": "messages[0].fps", "code": 400}
            return JSONResponse({"error": error}, 400)
        if server.behaviour == "detail":
            return JSONResponse({"detail": "Not Found"}, 404)
        if server.behaviour == "wait":
            assert (await request.receive())["type"] == "http.disconnect"
            server.closed.set()
        return StreamingResponse(answer(server), media_type="text/event-stream")

    return app


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    state = ChatServer()
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
    server.force_exit = True  # a hanging answer must not hold the test up
    thread.join()


@pytest.fixture
def chat_environment(tmp_path: Path) -> dict[str, str]:
    """Nothing of whoever runs the tests."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
    }


class Terminal:
    """`saccade chat` in a pseudo-terminal of 30 rows and 100 columns."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        stdout: int | None = None,
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "saccade.server.cli", "chat", *arguments],
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            env=dict(environment),
            cwd=cwd,
            start_new_session=True,
            # Ctrl-C reaches the group in front of the terminal that controls it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.seen = ""  # since the last `expect`
        self.all = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for_readline(self) -> None:
        """Until the terminal echoes no more by itself: what is seen then, readline has read."""
        end = time.monotonic() + 60
        while termios.tcgetattr(self._ours)[3] & termios.ECHO:
            assert time.monotonic() < end
            time.sleep(0.01)

    def interrupt_readline(self) -> None:
        """Ctrl-C once the process sleeps: CPython sees a signal only in readline's select.

        One that comes between an echo and the next select is acted upon with the next key.
        """
        end = time.monotonic() + 60
        stat = Path(f"/proc/{self.process.pid}/stat")  # of the main thread
        while stat.read_text().rpartition(")")[2].split()[0] != "S":
            assert time.monotonic() < end
            time.sleep(0.01)
        self.type("\x03")

    def expect(self, text: str, seconds: float = 60) -> str:
        """Everything up to the text and with it."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            left = end - time.monotonic()
            ready, _, _ = select.select([self._ours], [], [], max(0, left))
            assert ready, (text, self.seen)
            try:
                read = os.read(self._ours, 65536)
            except OSError:  # the process has ended
                read = b""
            assert read, (text, self.seen)
            text_read = self._decoder.decode(read)
            self.seen += text_read
            self.all += text_read
        before, found, self.seen = self.seen.partition(text)
        return before + found

    def say(self, line: str, answer: str) -> str:
        """Types a line, and waits for what it leads to and the next prompt."""
        self.type(f"{line}\r")
        return self.expect(answer) + self.expect("> ")

    def end(self) -> int:
        """Ctrl-D; the exit code."""
        self.type("\x04")
        code = self.process.wait(60)
        os.close(self._ours)
        return code


@pytest.fixture
def terminal(chat_server: ChatServer, chat_environment: dict[str, str], tmp_path: Path):
    """Starts a session."""
    started: list[Terminal] = []

    def start(*arguments: str, stdout: int | None = None, **environment: str) -> Terminal:
        one = Terminal(
            ["--url", chat_server.url, *arguments], chat_environment | environment, tmp_path, stdout
        )
        started.append(one)
        one.expect("> ")
        return one

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.fixture
def batch_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with running_batch_server() as state:
        yield state

"""A closed-loop load generator for any OpenAI-compatible server, that keeps every answer.

Open-loop load, and figures that others can take, are those of vLLM's generator (`load/`). This one
tells apart how a stream can fail, keeps the reason why an answer ended and what the server says of
its media, and sends what is not a chat about media: that is what answers are checked by.

`concurrency` callers each send a request, read its stream to the end, and send the next. What is
measured is what a caller sees: nothing of the request's making, everything of the network.
"""

import asyncio
import io
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import aiohttp

from saccade.benchmarks.common.workloads import Request

_PREFIX = b"data:"
_DONE = b"[DONE]"
_LONGEST_LINE = 2**20  # bytes
_KEEP_ALIVE = 2.0  # seconds; servers of vLLM's kind close what idles for 5


@dataclass(frozen=True)
class Outcome:
    """What came of one request. Times in seconds."""

    index: int
    error: str | None = None  # a kind that can be counted, e.g. http_429, timeout, stream_error
    detail: str = ""  # of the error, for people
    first_token: float | None = None  # from sending to the first text
    gaps: tuple[float, ...] = ()  # between successive pieces of text
    total: float | None = None  # from sending to the end of the stream
    text: str = ""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None  # of the prompt, where the server says
    visual_tokens: int | None = None  # image_tokens or video_tokens, where the server says


@dataclass(frozen=True)
class Load:
    """A finished run."""

    outcomes: tuple[Outcome, ...]  # in the order of the requests
    seconds: float  # from the first request sent to the last stream ended


class _Broken(Exception):
    """A stream that did not go as the API says."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


async def run_load(
    url: str,
    requests: Iterable[Request],
    concurrency: int,
    timeout_seconds: float,
    api_key: str | None = None,
) -> Load:
    """Send every request to `url` (the server's root), at most `concurrency` at a time.

    Args:
        timeout_seconds: without a byte after which a request counts as failed.
    """
    waiting = list(reversed(list(requests)))
    outcomes: list[Outcome] = []
    async with open_client(url, concurrency, timeout_seconds, api_key) as client:

        async def caller() -> None:
            while waiting:
                outcomes.append(await send(client, waiting.pop()))

        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(caller())
        seconds = time.perf_counter() - start
    return Load(tuple(sorted(outcomes, key=lambda outcome: outcome.index)), seconds)


def open_client(
    url: str, connections: int, timeout_seconds: float, api_key: str | None = None
) -> aiohttp.ClientSession:
    """What requests are sent with. For a running event loop.

    Args:
        connections: to the server at a time.
        timeout_seconds: without a byte after which a request counts as failed.
    """
    return aiohttp.ClientSession(
        f"{url.rstrip('/')}/",
        headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEEP_ALIVE),
        timeout=aiohttp.ClientTimeout(sock_connect=timeout_seconds, sock_read=timeout_seconds),
        read_bufsize=_LONGEST_LINE,
        trust_env=True,
    )


async def send(client: aiohttp.ClientSession, request: Request) -> Outcome:
    """Send one request and read its stream; failures come back as outcomes, never as errors."""
    try:
        return await _stream(client, request)
    except _Broken as error:
        return Outcome(request.index, error.kind, str(error))
    except TimeoutError as error:
        return Outcome(request.index, "timeout", type(error).__name__)
    except aiohttp.ClientError as error:
        return Outcome(request.index, "connection", f"{type(error).__name__}: {error}")


async def _stream(client: aiohttp.ClientSession, request: Request) -> Outcome:
    arrivals: list[float] = []
    text: list[str] = []
    finish_reason: str | None = None
    usage: dict[str, Any] = {}
    done = False
    start = time.perf_counter()
    body = io.BytesIO(request.body)  # of bytes, aiohttp would rather not have many
    json_body = {"Content-Type": "application/json"}
    async with client.post("v1/chat/completions", data=body, headers=json_body) as response:
        if response.status != 200:
            told = await response.text(errors="replace")
            raise _Broken(f"http_{response.status}", told[:300])
        async for line in response.content:
            now = time.perf_counter()
            if not line.startswith(_PREFIX):
                continue
            payload = line.removeprefix(_PREFIX).strip()
            if payload == _DONE:
                done = True  # the end of the stream follows, and leaves the connection usable
                continue
            chunk = _parse(payload)
            usage = chunk.get("usage") or usage
            for choice in chunk.get("choices") or ():
                finish_reason = choice.get("finish_reason") or finish_reason
                if piece := (choice.get("delta") or {}).get("content"):
                    arrivals.append(now)
                    text.append(piece)
    total = time.perf_counter() - start
    if not done:
        raise _Broken("incomplete", "the stream ended before data: [DONE]")
    details = usage.get("prompt_tokens_details") or {}
    return Outcome(
        index=request.index,
        first_token=arrivals[0] - start if arrivals else None,
        gaps=tuple(later - earlier for earlier, later in pairwise(arrivals)),
        total=total,
        text="".join(text),
        finish_reason=finish_reason,
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        cached_tokens=details.get("cached_tokens"),
        visual_tokens=details.get(f"{request.kind}_tokens"),
    )


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        chunk = json.loads(payload)
    except ValueError as error:
        raise _Broken("malformed", f"{error}: {payload[:100]!r}") from error
    if not isinstance(chunk, dict):
        raise _Broken("malformed", f"not an object: {payload[:100]!r}")
    if "error" in chunk:
        raise _Broken("stream_error", json.dumps(chunk["error"])[:300])
    return chunk

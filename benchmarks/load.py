"""A closed-loop load generator for any OpenAI-compatible server.

`concurrency` callers each send a request, read its stream to the end, and send the next. What is
measured is what a caller sees: nothing of the request's making, everything of the network.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import httpx

from saccade.benchmarks.workloads import Request

_DONE = "[DONE]"


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
    finished: Callable[[], None] = lambda: None,
) -> Load:
    """Send every request to `url` (the server's root), at most `concurrency` at a time.

    Args:
        timeout_seconds: without a byte after which a request counts as failed.
        finished: called after each request.
    """
    waiting = list(reversed(list(requests)))
    outcomes: list[Outcome] = []
    headers = {"Content-Type": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, limits=limits, timeout=timeout_seconds
    ) as client:

        async def caller() -> None:
            while waiting:
                outcomes.append(await send(client, waiting.pop()))
                finished()

        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(caller())
        seconds = time.perf_counter() - start
    return Load(tuple(sorted(outcomes, key=lambda outcome: outcome.index)), seconds)


async def send(client: httpx.AsyncClient, request: Request) -> Outcome:
    """Send one request and read its stream; failures come back as outcomes, never as errors."""
    try:
        return await _stream(client, request)
    except _Broken as error:
        return Outcome(request.index, error.kind, str(error))
    except httpx.TimeoutException as error:
        return Outcome(request.index, "timeout", type(error).__name__)
    except httpx.HTTPError as error:
        return Outcome(request.index, "connection", f"{type(error).__name__}: {error}")


async def _stream(client: httpx.AsyncClient, request: Request) -> Outcome:
    arrivals: list[float] = []
    text: list[str] = []
    finish_reason: str | None = None
    usage: dict[str, Any] = {}
    done = False
    start = time.perf_counter()
    async with client.stream("POST", "/v1/chat/completions", content=request.body) as response:
        if response.status_code != 200:
            body = (await response.aread()).decode(errors="replace")
            raise _Broken(f"http_{response.status_code}", body[:300])
        async for line in response.aiter_lines():
            now = time.perf_counter()
            if not line.startswith("data:"):
                continue
            payload = line.removeprefix("data:").strip()
            if payload == _DONE:
                done = True
                break
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
        visual_tokens=details.get(f"{request.kind}_tokens"),
    )


def _parse(payload: str) -> dict[str, Any]:
    try:
        chunk = json.loads(payload)
    except json.JSONDecodeError as error:
        raise _Broken("malformed", f"{error}: {payload[:100]}") from error
    if not isinstance(chunk, dict):
        raise _Broken("malformed", f"not an object: {payload[:100]}")
    if "error" in chunk:
        raise _Broken("stream_error", json.dumps(chunk["error"])[:300])
    return chunk

"""What is asked of a server beside the load, one request at a time."""

import json
import os
from typing import Any

import httpx

from saccade.benchmarks.load.profiles import Message

_TIMEOUT = 600.0  # seconds


class LoadError(Exception):
    """One line that says why there is no run."""


def authorization() -> dict[str, str]:
    """The headers of a request, with the key that vLLM's generator takes too."""
    key = os.environ.get("OPENAI_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def first_model(url: str) -> str:
    """The first model that the server lists.

    Raises:
        LoadError: there is no server that answers as OpenAI's API does.
    """
    try:
        listed = httpx.get(f"{url}/v1/models", headers=authorization(), timeout=10)
        listed.raise_for_status()
        return str(listed.json()["data"][0]["id"])
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise LoadError(f"cannot talk to {url}: {error}") from error
    except (LookupError, TypeError, ValueError) as error:
        raise LoadError(f"{url}/v1/models does not answer as OpenAI's API does") from error


def version(url: str) -> str:
    """What the server calls its version; empty if it does not say."""
    try:
        answer = httpx.get(f"{url}/version", headers=authorization(), timeout=10)
    except httpx.HTTPError:
        return ""
    return answer.text[:300] if answer.status_code == 200 else ""


def request_body(model: str, messages: list[Message], max_tokens: int, ends: bool) -> bytes:
    """A request as the load's are, but for streaming.

    Args:
        ends: whether the model ends its answer; else it has exactly ``max_tokens``.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_completion_tokens": max_tokens,
        "temperature": 0,
    }
    if not ends:
        body["min_tokens"] = max_tokens
    return json.dumps(body).encode()


def ask(url: str, body: bytes) -> tuple[str, int]:
    """The answer's text, and what the prompt came to in tokens.

    Raises:
        LoadError: there is none.
    """
    headers = {"Content-Type": "application/json", **authorization()}
    try:
        answer = httpx.post(
            f"{url}/v1/chat/completions", content=body, headers=headers, timeout=_TIMEOUT
        )
        answer.raise_for_status()
        told = answer.json()
        return told["choices"][0]["message"]["content"] or "", told["usage"]["prompt_tokens"]
    except httpx.HTTPError as error:
        raise LoadError(f"{url} does not answer a plain request: {error}") from error
    except (LookupError, TypeError, ValueError) as error:
        raise LoadError(f"{url} does not answer as OpenAI's API does: {error}") from error

"""Questions to a server that speaks OpenAI's API, and its answers as they stream in."""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import openai

from saccade.server.commands.chat.output import printable

_VERSION_SEGMENT = re.compile(r"/v[0-9]")
_ENDINGS = {"abort": "the server gave up the answer", "error": "the server failed in the answer"}


class RequestFailed(Exception):
    """One line: what the server or the connection said."""


@dataclass
class Answer:
    """One answer, whole or as far as it has come."""

    model: str
    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    ttft_seconds: float | None = None  # until the first text
    seconds: float = 0.0
    vision: dict[str, Any] = field(default_factory=dict)  # Saccade's

    def as_json(self) -> dict[str, object]:
        """The object that ``--json`` prints."""
        told: dict[str, object] = {
            "answer": self.text,
            "finish_reason": self.finish_reason,
            "usage": self.usage,
            "ttft_seconds": self.ttft_seconds,
            "seconds": self.seconds,
            "model": self.model,
        }
        return {**told, "vision": self.vision} if self.vision else told


def base_url(url: str) -> str:
    """The address of the API for what a person gives: ``/v1`` is added where no version stands.

    Raises:
        ValueError: it is no http: or https: URL.
    """
    parts = urlsplit(url)
    # A port that is none raises by itself.
    known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    if not known or not url.isprintable() or " " in url:
        raise ValueError(f"{url!r} is no http: or https: URL")
    bare = url.rstrip("/")
    return bare if _VERSION_SEGMENT.search(parts.path) else f"{bare}/v1"


class Client:
    """One server. Not for several threads.

    Args:
        url: of the API, with its version (`base_url`).
        key: sent as a bearer token.
    """

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        timeout = openai.Timeout(600, connect=10)
        self._client = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=timeout)
        self._saccade: bool | None = None

    def first_model(self) -> str:
        """The name of the first model that is served.

        Raises:
            RequestFailed: there is none, or no answer.
        """
        try:
            models = self._client.models.list().data
            return str(models[0].id)
        except openai.OpenAIError as error:
            raise self._failed(error) from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise RequestFailed(f"{self.url}/models names no model; try --model NAME") from error

    def is_saccade(self) -> bool:
        """Whether the server knows Saccade's field ``vision``; asked once."""
        if self._saccade is None:
            root = _VERSION_SEGMENT.split(self.url)[0]
            try:
                told: object = self._client.get(f"{root}/version", cast_to=object)
            except (openai.OpenAIError, ValueError):
                told = None
            # vLLM alone tells one version.
            self._saccade = isinstance(told, dict) and {"version", "vllm"} <= told.keys()
        return self._saccade

    def ask(
        self,
        answer: Answer,
        messages: list[dict[str, Any]],
        options: Mapping[str, object],
        vision: Mapping[str, object],
        show: Callable[[str], None],
    ) -> None:
        """Fills the answer as it comes, and shows each piece of its text.

        Whatever ends it, also an interrupt, the stream is closed, and ``answer`` holds what came.

        Args:
            options: fields of the request, such as max_tokens.
            vision: Saccade's field; empty for servers that do not know it.

        Raises:
            RequestFailed: the server refused, failed, or went away.
        """
        began = time.perf_counter()
        fields: Any = {"messages": messages, **options}
        try:
            with self._client.chat.completions.create(
                model=answer.model,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"vision": vision} if vision else None,
                **fields,
            ) as stream:
                for chunk in stream:
                    self._take(answer, chunk, began, show)
        except openai.OpenAIError as error:
            raise self._failed(error) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise RequestFailed(f"{self.url} does not stream as OpenAI's API: {error}") from error
        finally:
            answer.seconds = time.perf_counter() - began
        if answer.finish_reason is None:
            raise RequestFailed(f"{self.url} ended the answer before it was whole")
        if answer.finish_reason in _ENDINGS:
            raise RequestFailed(_ENDINGS[answer.finish_reason])

    def _take(self, answer: Answer, chunk: Any, began: float, show: Callable[[str], None]) -> None:
        answer.model = chunk.model or answer.model
        if chunk.usage:
            answer.usage = chunk.usage.model_dump(mode="json", exclude_none=True, warnings=False)
        told = (chunk.model_extra or {}).get("vision")
        if isinstance(told, dict):
            answer.vision.update(told)
        for choice in (chunk.choices or ())[:1]:
            if piece := choice.delta.content:
                if answer.ttft_seconds is None:
                    answer.ttft_seconds = time.perf_counter() - began
                answer.text += piece
                show(piece)
            answer.finish_reason = choice.finish_reason or answer.finish_reason

    def _failed(self, error: openai.OpenAIError) -> RequestFailed:
        if isinstance(error, openai.APITimeoutError):
            return RequestFailed(f"{self.url} did not answer in time")
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            return RequestFailed(f"no connection to {self.url}: {one_line(str(cause))}")
        message, param = str(error), None
        if isinstance(error, openai.APIError):
            message, param, body = error.message, error.param, error.body
            if isinstance(body, dict) and isinstance(body.get("message"), str):
                message = body["message"]
            elif body:  # not OpenAI's shape
                message = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        line = one_line(message)
        if isinstance(error, openai.APIStatusError) and "Error code:" not in line:
            line = f"{error.status_code}: {line}"
        return RequestFailed(f"{line} (param: {one_line(str(param))})" if param else line)


def one_line(text: str) -> str:
    """The text in one line without control characters, cut where it is very long."""
    return printable(" ".join(text.split()))[:1000]

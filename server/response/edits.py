"""Post-processes vLLM's responses, JSON and server-sent events: usage, report, errors."""

import json
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import lru_cache
from typing import Any, Protocol

from saccade.server.core.errors import ApiError, as_api_error, error_body, error_event
from saccade.server.core.request_context import annotate_request
from saccade.server.request.vision import VisionTokens

logger = logging.getLogger("saccade.server")

_DONE = "data: [DONE]\n\n"
_NAMED = "event: "
# Text inside JSON strings has its quotes escaped, so these cannot be part of an answer's text.
_USAGE = '"usage":{'
_DATA = "data: "
_RESPONSE = '"response":{'


class Edit(Protocol):
    """One change to an answer on its way out. An edit belongs to one answer and may keep state."""

    def applies_to(self, event: str) -> bool:
        """Whether this server-sent event, still text, is to be given to `edit`."""

    def edit(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """What is sent in place of an answer, or of one event of a stream; may change ``data``."""


class VisionUsageEdit:
    """Puts ``image_tokens`` and ``video_tokens`` into usage."""

    def __init__(self, tokens: VisionTokens) -> None:
        self._tokens = tokens

    def applies_to(self, event: str) -> bool:
        return _USAGE in event

    def edit(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        usage = data.get("response", data).get("usage")
        if isinstance(usage, dict):
            # Chat and completions call it the prompt, responses the input.
            name = "input_tokens_details" if "input_tokens" in usage else "prompt_tokens_details"
            details = usage.get(name) or {}
            details.update(image_tokens=self._tokens.image, video_tokens=self._tokens.video)
            if name == "prompt_tokens_details":  # where load tests look for the text alone
                media = self._tokens.image + self._tokens.video
                details["prompt_tokens"] = (usage.get("prompt_tokens") or 0) - media
            usage[name] = details
            annotate_request(
                prompt_tokens=usage.get("prompt_tokens", usage.get("input_tokens")) or 0,
                completion_tokens=usage.get("completion_tokens", usage.get("output_tokens")) or 0,
            )
        return [data]


class WarningsEdit:
    """Puts warnings about the request into an answer: ``vision.warnings``, of a stream the first
    chunk, and of a response whatever event has it whole."""

    def __init__(self, warnings: Sequence[str]) -> None:
        self._warnings = warnings
        self._begun = False

    def applies_to(self, event: str) -> bool:
        return not self._begun or _RESPONSE in event

    def edit(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        self._begun = True
        vision = data.get("response", data).setdefault("vision", {})
        vision["warnings"] = [*self._warnings, *vision.get("warnings", ())]
        return [data]


@lru_cache(maxsize=256)
def log_warning(warning: str) -> None:
    """Tells the operator of what clients send, each thing once, and of so many at a time."""
    logger.warning("a request: %s", warning)


Failure = Callable[[ApiError, int], Sequence[str]]
"""(error, events sent before) -> the events that end a stream."""


def chat_failure(error: ApiError, _: int) -> Sequence[str]:
    """How a stream of chat or of completions fails."""
    return error_event(error), _DONE


def response_failure(error: ApiError, sent: int) -> Sequence[str]:
    """How a stream of a response fails: as OpenAI documents it, and as its clients look for it."""
    body = error_body(error)
    told = body["error"]
    data = {
        "type": "error",
        "sequence_number": sent,
        "code": told["code"],
        "message": told["message"],
        "param": told["param"],
        **body,
    }
    return (f"{_NAMED}error\n{_DATA}{json.dumps(data)}\n\n",)


async def finish_events(
    events: AsyncGenerator[str], edits: Sequence[Edit] = (), failure: Failure = chat_failure
) -> AsyncGenerator[str]:
    """vLLM's server-sent events with our additions and our errors.

    Args:
        events: as vLLM's serving classes give them, each ``data: ...`` and an empty line; those
            of a response with a line ``event: TYPE`` before.
        edits: applied in order, each to the events that it applies to; what one gives, the next
            one gets.
        failure: how the stream tells an error that stops it.

    Closes ``events`` when the reader leaves, which aborts the request in the engine.
    """
    sent = 0
    async with aclosing(events):
        try:
            async for event in events:
                wanted = [edit for edit in edits if edit.applies_to(event)]
                named = event.startswith(_NAMED)
                payload = event.partition("\n")[2] if named else event
                if wanted and payload.startswith(_DATA + "{"):
                    parts = [json.loads(payload.removeprefix(_DATA))]
                    for edit in wanted:
                        parts = [after for before in parts for after in edit.edit(before)]
                    for part in parts:
                        text = json.dumps(part, ensure_ascii=False, separators=(",", ":"))
                        name = f"{_NAMED}{part['type']}\n" if named else ""
                        yield f"{name}{_DATA}{text}\n\n"
                else:
                    yield event
                sent += 1
        except Exception as error:
            # The status line has gone out: the only place left for the error is the stream.
            for event in failure(as_api_error(error), sent):
                yield event

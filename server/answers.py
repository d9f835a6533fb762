"""What leaves the server: vLLM's answers with our additions, one kind of error."""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from saccade.server.errors import as_api_error, error_event
from saccade.server.preparation import VisionTokens
from saccade.server.vllm_adapter import event_error

logger = logging.getLogger("saccade.server")

_DONE = "data: [DONE]\n\n"
# Text inside JSON strings has its quotes escaped, so these cannot be part of an answer's text.
_USAGE = '"usage":{'
_ERROR = 'data: {"error":'
_DATA = "data: "


class Edit(Protocol):
    """One change to an answer on its way out. An edit belongs to one answer and may keep state."""

    def wants(self, event: str) -> bool:
        """Whether this server-sent event, still text, has to be parsed for `event`."""

    def event(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """What is sent in place of one event of a stream; ``data`` may be changed."""

    def answer(self, answer: dict[str, Any]) -> None:
        """Changes an answer that is not a stream."""


class UsageTokens:
    """Puts ``image_tokens`` and ``video_tokens`` into usage."""

    def __init__(self, tokens: VisionTokens) -> None:
        self._tokens = tokens

    def wants(self, event: str) -> bool:
        return _USAGE in event

    def event(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        self.answer(data)
        return [data]

    def answer(self, answer: dict[str, Any]) -> None:
        usage = answer.get("usage")
        if isinstance(usage, dict):
            details = usage.get("prompt_tokens_details") or {}
            details.update(image_tokens=self._tokens.image, video_tokens=self._tokens.video)
            usage["prompt_tokens_details"] = details


async def finish_events(
    events: AsyncGenerator[str], edits: Sequence[Edit] = ()
) -> AsyncIterator[str]:
    """vLLM's server-sent events with our additions and our errors.

    Args:
        events: as vLLM's serving classes give them, each ``data: ...`` and an empty line.
        edits: applied in order; what one gives, the next one gets.

    Closes ``events`` when the reader leaves, which aborts the request in the engine.
    """
    async with aclosing(events):
        try:
            async for event in events:
                if event.startswith(_ERROR):
                    yield error_event(event_error(event))
                elif event.startswith(_DATA + "{") and any(edit.wants(event) for edit in edits):
                    for data in _edited(json.loads(event.removeprefix(_DATA)), edits):
                        compact = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
                        yield f"{_DATA}{compact}\n\n"
                else:
                    yield event
        except Exception as error:
            # The status line has gone out: the only place left for the error is the stream.
            yield error_event(as_api_error(error))
            yield _DONE


def _edited(data: dict[str, Any], edits: Sequence[Edit]) -> list[dict[str, Any]]:
    sent = [data]
    for edit in edits:
        sent = [after for before in sent for after in edit.event(before)]
    return sent

"""What leaves the server: usage with the tokens of pictures and clips, one kind of error."""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from saccade.server.errors import as_api_error, error_event
from saccade.server.preparation import VisionTokens
from saccade.server.vllm_adapter import event_error

logger = logging.getLogger("saccade.server")

_DONE = "data: [DONE]\n\n"
# Text inside JSON strings has its quotes escaped, so these cannot be part of an answer's text.
_USAGE = '"usage":{'
_ERROR = 'data: {"error":'


def add_vision_tokens(answer: dict[str, Any], tokens: VisionTokens) -> None:
    """Puts ``image_tokens`` and ``video_tokens`` into the answer's usage, if it has one."""
    usage = answer.get("usage")
    if isinstance(usage, dict):
        details = usage.get("prompt_tokens_details") or {}
        details.update(image_tokens=tokens.image, video_tokens=tokens.video)
        usage["prompt_tokens_details"] = details


async def finish_events(
    events: AsyncGenerator[str], tokens: VisionTokens | None
) -> AsyncIterator[str]:
    """vLLM's server-sent events with our usage and our errors.

    Args:
        events: as vLLM's serving classes give them, each ``data: ...`` and an empty line.
        tokens: to be added to usage; None leaves it alone.

    Closes ``events`` when the reader leaves, which aborts the request in the engine.
    """
    async with aclosing(events):
        try:
            async for event in events:
                if event.startswith(_ERROR):
                    yield error_event(event_error(event))
                elif tokens is not None and _USAGE in event:
                    answer = json.loads(event.removeprefix("data: "))
                    add_vision_tokens(answer, tokens)
                    compact = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
                    yield f"data: {compact}\n\n"
                else:
                    yield event
        except Exception as error:
            # The status line has gone out: the only place left for the error is the stream.
            yield error_event(as_api_error(error))
            yield _DONE

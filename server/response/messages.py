"""Chat answers -> those of Anthropic's Messages API, whole or as its events."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import pydantic_core

from saccade.server.core.errors import ApiError, messages_error_body

_DATA = "data: "
_ERROR = "event: error"
_STOPS = {"length": "max_tokens", "tool_calls": "tool_use"}


def as_message(chat: Mapping[str, Any]) -> dict[str, Any]:
    """The message that says what a chat completion says."""
    (choice,) = chat["choices"]
    said = choice["message"]
    calls = said.get("tool_calls") or ()
    content: list[dict[str, Any]] = []
    if said.get("content"):
        content.append({"type": "text", "text": said["content"]})
    content += [_tool_use(call["id"], call["function"]) for call in calls]
    message = _message(chat, content, _usage(chat["usage"]))
    message |= _stop(choice, bool(calls))
    if "vision" in chat:
        message["vision"] = chat["vision"]
    return message


def messages_failure(error: ApiError, _: int) -> Sequence[str]:
    """How a stream of a message fails."""
    return (_event(messages_error_body(error)),)


async def message_events(events: AsyncGenerator[str]) -> AsyncIterator[str]:
    """Chat's server-sent events as those of a message.

    Args:
        events: with usage in every chunk; one of `messages_failure` ends them.
    """
    writer = _Writer()
    async with aclosing(events):
        async for event in events:
            if event.startswith(_ERROR):
                yield event
                return
            if not event.startswith(_DATA):  # a comment that keeps the connection alive
                yield _event({"type": "ping"})
            elif event.startswith(_DATA + "{"):
                for told in writer.write(json.loads(event.removeprefix(_DATA))):
                    yield _event(told)
    for told in writer.end():
        yield _event(told)


class _Writer:
    """Turns the chunks of one chat into the events of one message."""

    def __init__(self) -> None:
        self._begun = self._called = False
        self._blocks = 0
        self._open: str | None = None  # the type of the block that is being written
        self._choice: Mapping[str, Any] = {}  # the chunk's that has ended it
        self._usage: dict[str, Any] = {}
        self._vision: dict[str, Any] | None = None

    def write(self, chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        if chunk.get("usage"):
            self._usage = _usage(chunk["usage"])
        vision = chunk.get("vision")
        if not self._begun:
            self._begun = True
            message = _message(chunk, [], {**self._usage, "output_tokens": 0})
            if vision is not None:
                message["vision"] = vision
            events.append({"type": "message_start", "message": message})
        elif vision is not None:
            self._vision = vision
        for choice in chunk["choices"]:
            delta = choice["delta"]
            if text := delta.get("content"):
                if self._open != "text":
                    events += self._begin({"type": "text", "text": ""})
                events.append(self._delta({"type": "text_delta", "text": text}))
            for call in delta.get("tool_calls") or ():
                function = call.get("function") or {}
                if function.get("name"):
                    begun = {"type": "tool_use", "id": call["id"], "name": function["name"]}
                    events += self._begin({**begun, "input": {}})
                    self._called = True
                if part := function.get("arguments"):
                    events.append(self._delta({"type": "input_json_delta", "partial_json": part}))
            if choice.get("finish_reason"):
                self._choice = choice
        return events

    def end(self) -> list[dict[str, Any]]:
        ended: dict[str, Any] = {"type": "message_delta", "usage": self._usage}
        ended["delta"] = _stop(self._choice, self._called)
        if self._vision is not None:
            ended["vision"] = self._vision
        return [*self._close(), ended, {"type": "message_stop"}]

    def _begin(self, block: dict[str, Any]) -> list[dict[str, Any]]:
        events = self._close()
        self._open = block["type"]
        start = {"type": "content_block_start", "index": self._blocks, "content_block": block}
        return [*events, start]

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._blocks, "delta": delta}

    def _close(self) -> list[dict[str, Any]]:
        if self._open is None:
            return []
        self._open = None
        self._blocks += 1
        return [{"type": "content_block_stop", "index": self._blocks - 1}]


def _message(
    chat: Mapping[str, Any], content: list[dict[str, Any]], usage: dict[str, Any]
) -> dict[str, Any]:
    return {
        "id": "msg_" + str(chat["id"]).removeprefix("chatcmpl-"),
        "type": "message",
        "role": "assistant",
        "model": chat["model"],
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _stop(choice: Mapping[str, Any], called: bool) -> dict[str, Any]:
    """Why it ended. A call that was asked for by name ends in chat like a text."""
    reason = choice.get("finish_reason")
    found = choice.get("stop_reason")  # vLLM's: the string, or the token
    if reason == "stop" and isinstance(found, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": found}
    ended = "tool_use" if called else "end_turn"
    return {"stop_reason": _STOPS.get(str(reason), ended), "stop_sequence": None}


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens that the engine had in its cache are counted apart."""
    details = usage.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") or 0
    return {
        "input_tokens": usage["prompt_tokens"] - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.get("completion_tokens") or 0,
        "image_tokens": details.get("image_tokens") or 0,
        "video_tokens": details.get("video_tokens") or 0,
    }


def _tool_use(call_id: str, function: Mapping[str, Any]) -> dict[str, Any]:
    """What a call that was cut off has of its arguments is its input."""
    try:
        given = pydantic_core.from_json(function["arguments"] or "{}", allow_partial=True)
    except ValueError:
        given = {}
    given = given if isinstance(given, dict) else {}
    return {"type": "tool_use", "id": call_id, "name": function["name"], "input": given}


def _event(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {data['type']}\n{_DATA}{text}\n\n"

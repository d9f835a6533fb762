"""The ``input`` of a response -> items as vLLM takes them, and the media in them. Pure.

A response's input is a list of items: messages, function calls and their outputs. Media stand
in messages and in outputs of functions, with the controls and spellings of chat.
"""

from typing import Any

from saccade.server.core.errors import InvalidRequest
from saccade.server.request.calls import read_call
from saccade.server.request.message_parts import MessageReader
from saccade.server.request.spellings import given

# type of an item -> the key of what may hold parts.
PART_KEYS = {
    "message": "content",
    "function_call_output": "output",
    "custom_tool_call_output": "output",
}
_OTHERS = ("function_call", "custom_tool_call", "reasoning")
_CUSTOM_CALL = ("call_id", "name", "input")
# What clients add to items, that changes nothing here.
_FIELDS = {"type", "role", "content", "call_id", "output", "id", "status", "phase", "name"}
_ROLES = ("user", "assistant", "system", "developer")


def read_input(reader: MessageReader, items: object) -> object:
    """A copy of ``items`` with chat's parts; ``reader`` has the media in them.

    Text alone is left to vLLM's validation.

    Raises:
        InvalidRequest: an item or a part of unknown type or shape.
        ControlError: a control that is unknown, contradictory or out of range.
    """
    if items is None or isinstance(items, str):
        return items
    if not isinstance(items, list) or not items:
        raise InvalidRequest("input must be text or a list of at least one item", "input")
    return [_read_item(item, f"input[{i}]", reader) for i, item in enumerate(items)]


def _read_item(item: Any, path: str, reader: MessageReader) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise InvalidRequest("an item of the input must be an object", path)
    item = given(item)
    kind = item.get("type", "message" if "role" in item else None)
    if kind == "reasoning":  # vLLM must have these
        return {"id": "reasoning", "summary": [], **item}
    if kind == "function_call":
        if not isinstance(item.get("call_id"), str):
            raise InvalidRequest("call_id must name the call", f"{path}.call_id")
        return read_call(item, path, reader.left_out)
    if kind == "custom_tool_call":
        for name in _CUSTOM_CALL:
            if not isinstance(item.get(name), str):
                raise InvalidRequest(f"{name} must be text", f"{path}.{name}")
        return item
    if not isinstance(kind, str) or kind not in PART_KEYS:
        known = ", ".join((*PART_KEYS, *_OTHERS))
        named = f"of type {kind[:64]!r}" if isinstance(kind, str) else "without a type"
        raise InvalidRequest(f"an item {named} is not supported; use {known}", f"{path}.type")
    if kind == "message" and item.get("role") not in _ROLES:
        raise InvalidRequest(f"role must be one of {', '.join(_ROLES)}", f"{path}.role")
    if kind != "message" and not isinstance(item.get("call_id"), str):
        raise InvalidRequest("call_id must name the call", f"{path}.call_id")
    key = PART_KEYS[kind]
    content = item.get(key)
    reader.note_unknown(item, _FIELDS, path)
    # With an id, a status or a phase vLLM takes it for another kind of item: an output's parts it
    # could not read, and of an answer's it would read the first and drop the others.
    named = "role" if kind == "message" else "call_id"
    kept = {named: item[named]}
    if isinstance(content, str):
        return {**kept, "type": kind, key: content}
    if not isinstance(content, list):
        raise InvalidRequest(f"{key} must be text or a list of parts", f"{path}.{key}")
    before = len(reader.media)
    parts = reader.parts(content, f"{path}.{key}")
    if item.get("role") != "assistant":
        return {**kept, "type": kind, key: parts}
    if len(reader.media) > before:
        raise InvalidRequest("what the assistant said holds no media", reader.media[before].path)
    text = "".join(part["text"] if "text" in part else part["refusal"] for part in parts)
    return {**kept, "type": kind, key: text}

"""Calls of functions in a conversation, as vLLM's templates take them. Pure."""

import json
from typing import Any

from saccade.server.core.errors import InvalidRequest
from saccade.server.request.spellings import given


def read_calls(calls: object, path: str, left_out: list[str]) -> list[dict[str, Any]]:
    """The calls of one message; what the model is not shown of them comes to ``left_out``.

    Raises:
        InvalidRequest: not a list of calls of functions; names the path.
    """
    if not isinstance(calls, list):
        raise InvalidRequest("tool_calls must be a list", path)
    read = []
    for number, call in enumerate(calls):
        place = f"{path}[{number}]"
        if not isinstance(call, dict) or (call.get("type") or "function") != "function":
            raise InvalidRequest("a tool call must be of a function", place)
        call = given(call)
        if not isinstance(call.get("id", ""), str):
            raise InvalidRequest("the id of a call must be text", f"{place}.id")
        function = read_call(call.get("function"), f"{place}.function", left_out)
        read.append({"id": f"call_{number}", **call, "type": "function", "function": function})
    return read


def read_call(function: object, path: str, left_out: list[str]) -> dict[str, Any]:
    """A called function, whose arguments are a JSON object, as text.

    Raises:
        InvalidRequest: it has no name, or other arguments.
    """
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest("a call must name a function and give its arguments", path)
    text, place = function.get("arguments"), f"{path}.arguments"
    if isinstance(text, dict):
        return {**function, "arguments": json.dumps(text)}
    if not isinstance(text, str):
        raise InvalidRequest("arguments must be a JSON object, as text", place)
    try:
        value = json.loads(text) if text.strip() else {}
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidRequest("arguments hold half a surrogate pair", place) from None
    except (ValueError, RecursionError):
        # A model that was cut off has said so: the conversation must be able to go on.
        left_out.append(f"{place} is not JSON, and was left out")
        return {**function, "arguments": ""}
    if not isinstance(value, dict):
        raise InvalidRequest("arguments must be a JSON object, as text", place)
    return function

"""Fields as other servers and older clients spell them -> this server's own. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from saccade.server.core.errors import InvalidRequest
from saccade.server.request.fields import CONSTRAINTS

_ANSWERED = "structured_outputs"
# Words of vLLM's errors that name no field -> the fields that these can be about.
_SPOKEN_OF = {
    "grammar|schema|regex|structur": (_ANSWERED, "response_format", "text", "tools"),
    "repetiti": ("repetition_detection",),
    "token id|too large": ("prompt", "tokens"),
    "tool": ("tool_choice", "tools"),
    "prompt cannot be empty": ("truncate_prompt_tokens", "messages", "input", "prompt"),
}


def respelt(body: Mapping[str, Any], route: str) -> tuple[dict[str, Any], dict[str, str]]:
    """A copy of ``body`` in this server's spelling; by each name that it has now, the one it had.

    Null and ``tools: []`` are what is not there.

    Raises:
        InvalidRequest: a field beside another spelling of it, or one of a wrong kind.
    """
    fields = {name: value for name, value in body.items() if value is not None}
    sent_as: dict[str, str] = {}

    def rename(name: str, own: str, value: Any) -> None:
        if own in fields:
            other = sent_as.get(own, own)
            raise InvalidRequest(f"{name} and {other} exclude each other", name)
        fields[own] = value
        sent_as[own] = name

    if route == "c":
        if "functions" in fields:
            functions = fields.pop("functions")
            if not isinstance(functions, list):
                raise InvalidRequest("functions must be a list of functions", "functions")
            rename("functions", "tools", [{"type": "function", "function": f} for f in functions])
        if "function_call" in fields:
            choice = fields.pop("function_call")
            if isinstance(choice, dict):
                choice = {"type": "function", "function": choice}
            rename("function_call", "tool_choice", choice)
    if route in "crt":
        for name, own in CONSTRAINTS.items():
            if name not in fields:
                continue
            value = fields.pop(name)
            if name == "format" and value in ("", "json"):
                if value == "json":
                    rename(name, _ANSWERED, {"json_object": True})
            elif name == "format" and not isinstance(value, dict):
                raise InvalidRequest('format must be "json" or a JSON schema', name)
            else:
                rename(name, _ANSWERED, {own: value})
        if _ANSWERED in sent_as and "response_format" in fields:
            name = sent_as[_ANSWERED]
            raise InvalidRequest(f"{name} and response_format exclude each other", name)
    if fields.get("tools") == []:
        del fields["tools"]
    if "tools" not in fields and fields.get("tool_choice") in ("auto", "none"):
        del fields["tool_choice"]
    for name in ("max_completion_tokens", "max_output_tokens"):
        if "max_tokens" not in fields and name in fields:
            sent_as["max_tokens"] = name
    return fields, sent_as


def original(path: str | None, sent_as: Mapping[str, str]) -> str | None:
    """The path of a field in the body that was sent."""
    if path is None:
        return None
    name = re.split(r"[.\[]", path, maxsplit=1)[0]
    if name not in sent_as:
        return path
    # A constraint is all of its field, however deep it lies in this server's.
    return sent_as[name] + ("" if name == _ANSWERED else path[len(name) :])


def field_named(message: str, body: Mapping[str, Any]) -> str | None:
    """The field of ``body`` that an error of vLLM's speaks of, where it only says so in words."""
    for name in sorted(body, key=len, reverse=True):
        inside = body[name] if isinstance(body[name], dict) else ()
        if any(re.search(rf"\b{re.escape(word)}\b", message) for word in (name, *inside) if word):
            return name
    for words, names in _SPOKEN_OF.items():
        if re.search(words, message, re.IGNORECASE):
            return next((name for name in names if name in body), None)
    return None

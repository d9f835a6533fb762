"""Fields as other servers and older clients spell them -> this server's own. Pure."""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter, ValidationError

from saccade.server.core.errors import InvalidRequest
from saccade.server.request.fields import ANSWER_FIELDS, CONSTRAINT_KINDS, CONSTRAINTS

# What admission counts by: 5.0 and "5" are 5 to vLLM, and so have to be to us.
_COUNTS = ("n", "min_tokens", *ANSWER_FIELDS)
_COUNT = TypeAdapter(int)
_ANSWERED = "structured_outputs"
# Words of vLLM's errors that name no field -> the fields that these can be about.
_SPOKEN_OF = {
    "grammar|schema|regex|structur|^choice ": (_ANSWERED, "response_format", "text", "tools"),
    "beam_width": ("n",),
    "repetiti": ("repetition_detection",),
    "token id|too large": ("prompt", "tokens"),
    "tool": ("tool_choice", "tools"),
    "prompt cannot be empty": ("truncate_prompt_tokens", "messages", "input", "prompt"),
}


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without what is null, which is not there."""
    return {name: value for name, value in fields.items() if value is not None}


def respelt(body: Mapping[str, Any], route: str) -> tuple[dict[str, Any], dict[str, str]]:
    """A copy of ``body`` in this server's spelling; by each name that it has now, the one it had.

    Null, ``tools: []`` and constraints that are empty text are what is not there.

    Raises:
        InvalidRequest: a field beside another spelling of it, or one of a wrong kind.
    """
    fields = given(body)
    sent_as: dict[str, str] = {}

    def rename(name: str, own: str, value: Any) -> None:
        if own in fields:
            other = sent_as.get(own, own)
            raise InvalidRequest(f"{name} and {other} exclude each other", name)
        fields[own] = value
        sent_as[own] = name

    for name in _COUNTS:
        if name in fields:
            with suppress(ValidationError):  # which vLLM tells better
                fields[name] = _COUNT.validate_python(fields[name])
    if route in "ck":
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
            if name == "json_schema" and isinstance(value, dict) and "schema" in value:
                value = value["schema"]  # OpenAI's, of which the name is beside it
            if value == "":
                continue
            if name == "format" and value == "json":
                rename(name, _ANSWERED, {"json_object": True})
            elif name == "format" and not isinstance(value, dict):
                raise InvalidRequest('format must be "json" or a JSON schema', name)
            else:
                rename(name, _ANSWERED, {own: value})
        if isinstance(form := fields.get("response_format"), dict):
            fields["response_format"] = _respelt_format(form)
        if _ANSWERED in fields:
            _drop_no_format(fields)
            outputs = fields[_ANSWERED]
            if isinstance(outputs, dict):
                fields[_ANSWERED] = {
                    name: value
                    for name, value in outputs.items()
                    if name not in CONSTRAINT_KINDS or value not in (None, "", False)
                }
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


def _respelt_format(form: dict[str, Any]) -> dict[str, Any]:
    """A schema where other servers look for it goes to where OpenAI's does."""
    if form.get("type") not in ("json_object", "json_schema"):
        return form
    held = form.get("json_schema")
    if form.get("schema") is not None:
        held = {"schema": form["schema"]}
    if not isinstance(held, dict):
        return form
    if held.get("schema") is None:
        path = "response_format.json_schema.schema"
        raise InvalidRequest("a json_schema needs its schema", path)
    return {"type": "json_schema", "json_schema": {"name": "schema", **held}}


def _drop_no_format(fields: dict[str, Any]) -> None:
    """Text of any form, which excludes no constraint, is not asked for."""
    plain = {"type": "text"}
    if fields.get("response_format") == plain:
        del fields["response_format"]
    text = fields.get("text")
    if isinstance(text, dict) and text.get("format") == plain:
        fields["text"] = {name: value for name, value in text.items() if name != "format"}


def original(path: str | None, sent_as: Mapping[str, str]) -> str | None:
    """The path of a field in the body that was sent."""
    if path is None:
        return None
    name = re.split(r"[.\[]", path, maxsplit=1)[0]
    if name not in sent_as:
        return path
    # A constraint is all of its field, however deep it lies in this server's.
    rest = "" if name == _ANSWERED else path[len(name) :]
    if sent_as[name] in ("functions", "function_call"):  # no object of theirs holds a function
        rest = rest.replace(".function", "", 1)
    return sent_as[name] + rest


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

"""The body of Anthropic's Messages API -> the chat body that says the same. Pure.

Images (and videos, which Anthropic has none of) keep Qwen's controls beside their ``source``. What
has no counterpart in chat is refused by its path, and so is every field that is not known.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from saccade.server.core.errors import InvalidRequest
from saccade.server.request.fields import MEDIA_DEFAULTS

_AS_IN_CHAT = (
    *("model", "max_tokens", "temperature", "top_p", "top_k", "stream"),
    *("vision", "vl_high_resolution_images", "chat_template_kwargs"),
    *("cache_salt", "vllm_xargs", "kv_transfer_params", "ec_transfer_params", "watermarking"),
    *MEDIA_DEFAULTS.split(),
)
_HINTS = ("cache_control", "citations")  # beside blocks
_THOUGHTS = ("thinking", "redacted_thinking")  # no model here reasons
_TOOL_HINTS = (
    *("cache_control", "strict", "defer_loading", "input_examples", "allowed_callers"),
    "eager_input_streaming",
)
_SOURCES = {"base64": "data", "url": "url", "file": "file_id"}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


@dataclass
class Translation:
    """A chat body, and where in the sent body its parts come from.

    Attributes:
        body: of a chat completion.
        places: path in ``body`` -> path in the body that was sent.
    """

    body: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)


def path_sent(path: str, places: Mapping[str, str]) -> str:
    """A path in a translated body as it was in the body that was sent."""
    ends = [match.start() for match in re.finditer(r"[.\[]", path)]
    for end in (len(path), *reversed(ends)):
        if path[:end] in places:
            return places[path[:end]] + path[end:]
    return path


def to_counted_chat(body: Mapping[str, Any]) -> Translation:
    """Of a prompt whose tokens are counted: `to_chat` without ``max_tokens``."""
    made = Translation()
    chat = made.body
    chat.update((name, body[name]) for name in _AS_IN_CHAT if body.get(name) is not None)
    if body.get("model") is None:
        raise InvalidRequest("model must name the model", "model")
    if (stops := body.get("stop_sequences")) is not None:
        chat["stop"], made.places["stop"] = stops, "stop_sequences"
    if (tools := body.get("tools")) is not None:
        _add_tools(tools, made)
    if (choice := body.get("tool_choice")) is not None:
        _add_choice(choice, made)
    _add_format(body, made)
    chat["messages"] = []
    if (system := body.get("system")) is not None:
        _add_system(system, made)
    _add_messages(body.get("messages"), made)
    return made


def to_chat(body: Mapping[str, Any]) -> Translation:
    """The chat body that says what a Messages body says.

    Raises:
        InvalidRequest: a field or a block of unknown type or shape; names its path.
    """
    if body.get("max_tokens") is None:
        raise InvalidRequest("max_tokens must say how long the answer may be", "max_tokens")
    made = to_counted_chat(body)
    if made.body.get("stream"):  # the first event tells the tokens of the prompt
        made.body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    return made


def _add_system(system: object, made: Translation) -> None:
    if isinstance(system, list):
        blocks = [(_checked(block, f"system[{n}]"), n) for n, block in enumerate(system)]
        texts = [_text(block, f"system[{n}]") for block, n in blocks]
        content: Any = [{"type": "text", "text": text} for text in texts]
    elif isinstance(system, str):
        content = system
    else:
        raise InvalidRequest("system must be text or a list of blocks of text", "system")
    if content:
        made.places["messages[0]"] = "system"
        made.body["messages"].append({"role": "system", "content": content})


def _add_messages(messages: object, made: Translation) -> None:
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages must be a list of at least one message", "messages")
    for number, message in enumerate(messages):
        path = f"messages[{number}]"
        if not isinstance(message, dict):
            raise InvalidRequest("a message must be an object", path)
        _only(message, ("role", "content"), path)
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant"):
            raise InvalidRequest(
                "role must be user or assistant; what the system says is the field system",
                f"{path}.role",
            )
        if not isinstance(content, str | list):
            raise InvalidRequest("content must be text or a list of blocks", f"{path}.content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not blocks and role == "user":  # an assistant may have said nothing
            raise InvalidRequest("content must have at least one block", f"{path}.content")
        add = _add_user if role == "user" else _add_assistant
        add(blocks, path, made)
    chat = made.body
    last = chat["messages"][-1]
    if last["role"] == "assistant" and last["content"] and "tool_calls" not in last:
        chat.update(continue_final_message=True, add_generation_prompt=False)


def _add_user(blocks: list[Any], path: str, made: Translation) -> None:
    """A user's message; results of tools in it are messages of their own."""
    messages = made.body["messages"]
    parts: list[Any] | None = None
    for number, block in enumerate(blocks):
        place = f"{path}.content[{number}]"
        block = _checked(block, place)
        if block["type"] == "tool_result":
            parts = None
            made.places[f"messages[{len(messages)}]"] = place
            messages.append(_result(block, place))
            continue
        if parts is None:
            parts = []
            made.places[f"messages[{len(messages)}]"] = path
            messages.append({"role": "user", "content": parts})
        made.places[f"messages[{len(messages) - 1}].content[{len(parts)}]"] = place
        parts.append(_part(block, place))


def _result(block: dict[str, Any], place: str) -> dict[str, Any]:
    _only(block, ("type", "tool_use_id", "content", "is_error", *_HINTS), place)
    if not isinstance(block.get("tool_use_id"), str):
        raise InvalidRequest("tool_use_id must name the call", f"{place}.tool_use_id")
    content = block.get("content")
    if isinstance(content, list):
        content = [
            _part(_checked(one, f"{place}.content[{n}]"), f"{place}.content[{n}]")
            for n, one in enumerate(content)
        ]
    elif content is not None and not isinstance(content, str):
        raise InvalidRequest("content must be text or a list of blocks", f"{place}.content")
    return {"role": "tool", "tool_call_id": block["tool_use_id"], "content": content or ""}


def _add_assistant(blocks: list[Any], path: str, made: Translation) -> None:
    messages = made.body["messages"]
    index, text = len(messages), ""
    calls: list[dict[str, Any]] = []
    made.places[f"messages[{index}]"] = path
    for number, block in enumerate(blocks):
        place = f"{path}.content[{number}]"
        block = _checked(block, place)
        if block["type"] == "text":
            text += _text(block, place)
        elif block["type"] == "tool_use":
            made.places[f"messages[{index}].tool_calls[{len(calls)}]"] = place
            calls.append(_call(block, place))
        elif block["type"] not in _THOUGHTS:
            raise _unsupported(block, ("text", "tool_use"), place)
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = calls
    messages.append(message if text or calls else {"role": "assistant", "content": ""})


def _call(block: dict[str, Any], place: str) -> dict[str, Any]:
    _only(block, ("type", "id", "name", "input", "caller", *_HINTS), place)
    for name in ("id", "name"):
        if not isinstance(block.get(name), str):
            raise InvalidRequest(f"{name} must be text", f"{place}.{name}")
    if not isinstance(block.get("input"), dict):
        raise InvalidRequest("input must be an object", f"{place}.input")
    arguments = json.dumps(block["input"], ensure_ascii=False)
    function = {"name": block["name"], "arguments": arguments}
    return {"id": block["id"], "type": "function", "function": function}


def _part(block: dict[str, Any], place: str) -> dict[str, Any]:
    """A block of a user's message or of a tool's result, as a part of chat."""
    kind = block["type"]
    if kind == "text":
        return {"type": "text", "text": _text(block, place)}
    if kind not in ("image", "video"):
        raise _unsupported(block, ("text", "image", "video", "tool_result"), place)
    source, at = block.get("source"), f"{place}.source"
    if not isinstance(source, dict):
        raise InvalidRequest(f"source must say where the {kind} is", at)
    if (key := _SOURCES.get(str(source.get("type")))) is None:
        raise InvalidRequest("a source is of type base64, url or file", f"{at}.type")
    _only(source, ("type", "media_type", key), at)
    if not isinstance(source.get("media_type") or "", str):
        raise InvalidRequest("media_type must be text, such as image/jpeg", f"{at}.media_type")
    if not isinstance(source.get(key), str) or not source[key].strip():
        raise InvalidRequest(f"{key} must be text that is not empty", f"{at}.{key}")
    return {name: value for name, value in block.items() if name not in _HINTS}


def _text(block: dict[str, Any], place: str) -> str:
    if block["type"] != "text":
        raise _unsupported(block, ("text",), place)
    _only(block, ("type", "text", *_HINTS), place)
    if not isinstance(block.get("text"), str):
        raise InvalidRequest("text must be text", f"{place}.text")
    text: str = block["text"]
    return text


def _add_tools(tools: object, made: Translation) -> None:
    if not isinstance(tools, list):
        raise InvalidRequest("tools must be a list", "tools")
    made.body["tools"] = functions = []
    for number, tool in enumerate(tools):
        path = f"tools[{number}]"
        if not isinstance(tool, dict):
            raise InvalidRequest("a tool must be an object", path)
        if tool.get("type") not in (None, "custom"):
            raise InvalidRequest("the server has no tools of its own", f"{path}.type")
        _only(tool, ("type", "name", "description", "input_schema", *_TOOL_HINTS), path)
        if not isinstance(tool.get("name"), str):
            raise InvalidRequest("name must be text", f"{path}.name")
        if not isinstance(tool.get("input_schema"), dict):
            raise InvalidRequest("input_schema must be a JSON schema", f"{path}.input_schema")
        function = {"name": tool["name"], "parameters": tool["input_schema"]}
        if tool.get("description") is not None:
            function["description"] = tool["description"]
        functions.append({"type": "function", "function": function})
        made.places[f"tools[{number}].function"] = path
        made.places[f"tools[{number}].function.parameters"] = f"{path}.input_schema"


def _add_choice(choice: object, made: Translation) -> None:
    kind = choice.get("type") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or kind not in ("tool", *_CHOICES):
        raise InvalidRequest("tool_choice has type auto, any, tool or none", "tool_choice.type")
    _only(choice, ("type", "name", "disable_parallel_tool_use"), "tool_choice")
    if kind == "tool":
        if not isinstance(choice.get("name"), str):
            raise InvalidRequest("name must name the tool", "tool_choice.name")
        named = {"type": "function", "function": {"name": choice["name"]}}
        made.body["tool_choice"] = named
        made.places["tool_choice.function.name"] = "tool_choice.name"
    else:
        made.body["tool_choice"] = _CHOICES[kind]
    if (alone := choice.get("disable_parallel_tool_use")) is not None:
        if not isinstance(alone, bool):
            path = "tool_choice.disable_parallel_tool_use"
            raise InvalidRequest("disable_parallel_tool_use must be true or false", path)
        made.body["parallel_tool_calls"] = not alone


def _add_format(body: Mapping[str, Any], made: Translation) -> None:
    """A schema that the answer has to follow."""
    wanted, path = body.get("output_format"), "output_format"
    if (config := body.get("output_config")) is not None:
        if not isinstance(config, dict):
            raise InvalidRequest("output_config must be an object", "output_config")
        _only(config, ("format", "effort"), "output_config")
        if config.get("format") is not None:
            wanted, path = config["format"], "output_config.format"
    if wanted is None:
        return
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        raise InvalidRequest("the format of an answer is of type json_schema", f"{path}.type")
    if not isinstance(wanted.get("schema"), dict):
        raise InvalidRequest("a json_schema needs its schema", f"{path}.schema")
    schema = {"name": "answer", "schema": wanted["schema"]}
    made.body["response_format"] = {"type": "json_schema", "json_schema": schema}
    made.places["response_format"] = path
    made.places["response_format.json_schema"] = path


def _checked(block: object, place: str) -> dict[str, Any]:
    """A block whose type is text."""
    if not isinstance(block, dict):
        raise InvalidRequest("a block must be an object", place)
    if not isinstance(block.get("type"), str):
        raise InvalidRequest("a block must have a type", f"{place}.type")
    return block


def _unsupported(block: dict[str, Any], known: Collection[str], place: str) -> InvalidRequest:
    told = f"a block of type {block['type'][:64]!r} is not supported here; use {', '.join(known)}"
    return InvalidRequest(told, f"{place}.type")


def _only(holder: Mapping[str, Any], known: Collection[str], path: str) -> None:
    for name in holder:
        if name not in known and holder[name] is not None:
            raise InvalidRequest(f"unknown field {name[:64]!r}", f"{path}.{name[:64]}")

"""What OpenAPI says of Anthropic's Messages API: its bodies, answers and errors."""

from typing import Any

_TEXT = {"type": "string"}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _block(kind: str, *required: str, **properties: Any) -> dict[str, Any]:
    return _object(["type", *required], type={"const": kind}, **properties)


_BASE64 = _block("base64", "media_type", "data", media_type=_TEXT, data=_TEXT)
_SOURCE = {"anyOf": [_BASE64, _block("url", "url", url=_TEXT)]}
_TEXT_BLOCK = _block("text", "text", text=_TEXT)
_SHOWN = [
    _TEXT_BLOCK,
    *(
        {
            **_block(kind, "source", source=_SOURCE),
            "description": f"controls of the {kind} stand beside `source`, as in chat's parts",
        }
        for kind in ("image", "video")
    ),
]
_RESULT = _block(
    "tool_result",
    "tool_use_id",
    tool_use_id=_TEXT,
    content={"anyOf": [_TEXT, {"type": "array", "items": {"anyOf": _SHOWN}}]},
)
_CALL = _block("tool_use", "id", "name", "input", id=_TEXT, name=_TEXT, input={"type": "object"})


def _message(role: str, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    content = [_TEXT, {"type": "array", "items": {"anyOf": blocks}, "minItems": 1}]
    return _object(["role", "content"], role={"const": role}, content={"anyOf": content})


_PROMPT: dict[str, Any] = {
    "model": _TEXT,
    "messages": {
        "type": "array",
        "minItems": 1,
        "items": {
            "anyOf": [
                _message("user", [*_SHOWN, _RESULT]),
                _message("assistant", [_TEXT_BLOCK, _CALL]),
            ]
        },
    },
    "system": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT_BLOCK}]},
    "tools": {
        "type": "array",
        "items": _object(
            ["name", "input_schema"], name=_TEXT, description=_TEXT, input_schema={"type": "object"}
        ),
    },
    "tool_choice": _object(["type"], type={"enum": ["auto", "any", "tool", "none"]}, name=_TEXT),
}
MESSAGES = _object(
    ["model", "messages", "max_tokens"],
    **_PROMPT,
    max_tokens={"type": "integer", "minimum": 1},
    temperature={"type": "number", "minimum": 0},
    top_p={"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    top_k={"type": "integer", "minimum": 0},
    stop_sequences={"type": "array", "items": _TEXT},
    stream={"type": "boolean"},
    vision={"$ref": "#/components/schemas/VisionOptions"},
)
COUNTED = _object(["model", "messages"], **_PROMPT)
_COUNT = {"type": "integer", "minimum": 0}
_COUNTS = ["input_tokens", "cache_read_input_tokens", "output_tokens"]
MESSAGE = _object(
    ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"],
    id=_TEXT,
    type={"const": "message"},
    role={"const": "assistant"},
    model=_TEXT,
    content={"type": "array", "items": {"anyOf": [_TEXT_BLOCK, _CALL]}},
    stop_reason={"enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use"]},
    stop_sequence={"type": ["string", "null"]},
    usage=_object(_COUNTS, **dict.fromkeys(_COUNTS, _COUNT)),
)
COUNT = _object(["input_tokens"], input_tokens=_COUNT)
ERROR = _object(
    ["type", "error"],
    type={"const": "error"},
    error=_object(
        ["type", "message"], type=_TEXT, message=_TEXT, param={"type": ["string", "null"]}
    ),
    request_id={"type": ["string", "null"]},
)

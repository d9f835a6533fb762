"""Chat messages -> the images and videos in them, with their controls. Pure.

Every spelling is read here, and everything that vLLM would understand differently, or silently
drop, is refused by name: vLLM sees only the text and media parts that are written here and in
`media_parts`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from saccade.media.controls import ImageFields, VideoFields
from saccade.media.errors import ControlError
from saccade.server.core.errors import InvalidRequest
from saccade.server.request.calls import read_call, read_calls
from saccade.server.request.media_parts import (
    FILE_TYPES,
    HINTS,
    MEDIA_NAMES,
    MEDIA_TYPES,
    NOTHING,
    MediaReader,
)
from saccade.server.request.spellings import given

# type of a part -> the key that holds its text.
_TEXT_TYPES = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
}
_TEXT_FIELDS = ("role", "name", "tool_call_id", "refusal", "reasoning", "reasoning_content")
_MESSAGE_FIELDS = HINTS | {
    *_TEXT_FIELDS,
    *("content", "tool_calls", "function_call", "images", "type"),
}
_PART_FIELDS = HINTS | {"type", *_TEXT_TYPES.values()}
_CONTROLS = ImageFields.model_fields.keys() | VideoFields.model_fields.keys()
# Beside a message or a text they would be believed in.
_BESIDE_MEDIA = _CONTROLS | {"vl_high_resolution_images"}
# Where the model is to go on with a message, as other servers say it.
_CONTINUED = ("prefix", "partial")
_SPEAK = ("system", "developer", "user", "tool", "function")  # whose messages have a content


@dataclass
class MessageReader(MediaReader):
    """Reads the messages of one request.

    Attributes:
        unknown: paths of fields that mean nothing here, found so far.
        left_out: what else the model is not shown, and why.
    """

    unknown: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def read(self, messages: object) -> object:
        """A copy of ``messages`` for vLLM.

        Raises:
            InvalidRequest: a message, a part or a call of unknown type or shape.
            ControlError: a control that is unknown, contradictory or out of range.
        """
        if messages is None:
            return None
        if not isinstance(messages, list) or not messages:
            raise InvalidRequest("messages must be a list of at least one message", "messages")
        return [self._message(one, f"messages[{i}]") for i, one in enumerate(messages)]

    def _message(self, message: object, path: str) -> dict[str, Any]:
        if not isinstance(message, dict):
            raise InvalidRequest("a message must be an object", path)
        for name in _TEXT_FIELDS:
            if message.get(name) is not None and not isinstance(message[name], str):
                raise InvalidRequest(f"{name} must be text", f"{path}.{name}")
        role = message.get("role")
        if role is None:
            raise InvalidRequest("a message must have a role", f"{path}.role")
        if not role or role != role.lower():
            known = ", ".join((*_SPEAK, "assistant"))
            raise InvalidRequest(f"a role is written in small letters: {known}", f"{path}.role")
        if not message.keys() <= _MESSAGE_FIELDS:
            self.note_unknown(message, _MESSAGE_FIELDS, path)
        message = dict(message)
        if message.get("content") is None and message.get("refusal") is not None:
            message["content"] = message["refusal"]
        content = message.get("content")
        images = message.pop("images", None)
        if images is not None:  # Ollama's, which shows them before the text
            message["content"] = self.images(images, f"{path}.images")
            content = [content] if isinstance(content, str) else content
        if isinstance(content, list):
            read = self.parts(content, f"{path}.content")
            message["content"] = [*message["content"], *read] if images is not None else read
        elif content is None and images is None and role in _SPEAK:
            raise InvalidRequest("a message must have a content", f"{path}.content")
        elif content is not None and not isinstance(content, str):
            raise InvalidRequest("content must be text or a list of parts", f"{path}.content")
        if (call := message.pop("function_call", None)) is not None:  # OpenAI's older form
            called = read_call(call, f"{path}.function_call", self.left_out)
            message["tool_calls"] = [{"id": "call", "type": "function", "function": called}]
        elif message.get("tool_calls") is not None:
            calls = message["tool_calls"]
            message["tool_calls"] = read_calls(calls, f"{path}.tool_calls", self.left_out)
        if role == "function":
            message.update(role="tool", tool_call_id="call")
        return message

    def parts(self, parts: list[Any], path: str) -> list[dict[str, Any]]:
        """One message's parts as vLLM's chat takes them.

        Raises:
            InvalidRequest, ControlError: as `read`.
        """
        content: list[dict[str, Any]] = []
        for number, part in enumerate(parts):
            place = f"{path}[{number}]"
            if isinstance(part, str):
                part = {"type": "text", "text": part}
            if not isinstance(part, dict):
                raise InvalidRequest("a content part must be an object", place)
            part = given(part)
            kind = part.get("type")
            if not isinstance(kind, str):
                kind = None
            if kind in _TEXT_TYPES:
                key = _TEXT_TYPES[kind]
                if not isinstance(part.get(key), str):
                    message = f"a part of type {kind!r} needs its text"
                    raise InvalidRequest(message, f"{place}.{key}")
                # Chat templates would draw a placeholder of an image that is not there.
                if not part.keys() <= _PART_FIELDS:
                    self.note_unknown(part, _PART_FIELDS, place)
                content.append({"type": key, key: part[key]})
            elif kind in MEDIA_TYPES:
                content.append(self.medium(part, place))
            elif kind in FILE_TYPES:
                content.append(self.file(part, place))
            else:
                known = ", ".join((*_TEXT_TYPES, *MEDIA_TYPES, *FILE_TYPES))
                named = "without a type" if kind is None else f"of type {kind[:64]!r}"
                message = f"a part {named} is not supported; use {known}"
                raise InvalidRequest(message, f"{place}.type")
        return content

    def note_unknown(self, holder: Mapping[str, Any], known: Collection[str], path: str) -> None:
        """Notes fields that are not known, and refuses those that are believed in.

        Raises:
            InvalidRequest, ControlError: a medium, a control of one, or a wish to go on.
        """
        for name in holder:
            if name in known or holder[name] is None:
                continue
            place = f"{path}.{name[:64]}"
            if name in _BESIDE_MEDIA:
                raise ControlError(f"{name} belongs beside an image or a video", place)
            if name in _CONTINUED and holder[name]:
                message = f"{name} is not supported: use continue_final_message"
                raise InvalidRequest(message, place)
            if name in MEDIA_NAMES:
                if holder[name] in NOTHING:
                    continue
                message = f"{name} means nothing here; send parts of type image_url or video_url"
                raise InvalidRequest(message, place)
            self.unknown.append(place)

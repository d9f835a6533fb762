"""Chat messages -> the images and videos in them, with their controls. Pure.

Every spelling is read here, and everything that vLLM would understand differently, or silently
drop, is refused by name: vLLM sees only the text and media parts that this module writes. A medium
is named by its index among those of the request, and has no URL: vLLM fetches nothing.
"""

import mimetypes
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from saccade.media.controls import (
    RATES,
    ImageControls,
    ImageFields,
    VideoControls,
    VideoFields,
    parse_controls,
)
from saccade.media.errors import ControlError
from saccade.media.fetch.uploaded import Uploaded
from saccade.server.core.errors import InvalidRequest
from saccade.server.files.store import UnknownFile
from saccade.server.request.calls import read_call, read_calls
from saccade.server.request.media_defaults import MediaDefaults
from saccade.server.request.spellings import given

# type of a part -> modality, and the key that holds the medium.
_MEDIA_TYPES = {
    "image_url": ("image", "image_url"),
    "image": ("image", "image"),
    "input_image": ("image", "image_url"),
    "video_url": ("video", "video_url"),
    "video": ("video", "video"),
    "input_video": ("video", "video_url"),
}
_MEDIA_KEYS = tuple(dict.fromkeys(key for _, key in _MEDIA_TYPES.values()))
# type of a part -> the key that holds its text.
_TEXT_TYPES = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
}
_TYPE_KEYS = ("mime_type", "mimeType", "media_type", "mediaType")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_FILE_TYPES = ("file", "input_file")
# Where else clients put base64.
_BASE64_KEYS = ("data", "base64", "file_data")
# What clients add to a part that changes nothing here.
_HINTS = {
    *_TYPE_KEYS,
    *("cache_control", "prompt_cache_breakpoint", "format", "id", "index", "filename", "file_id"),
    *("metadata", "source_type", "annotations", "logprobs", "status"),
}
_TEXT_FIELDS = ("role", "name", "tool_call_id", "refusal", "reasoning", "reasoning_content")
_MESSAGE_FIELDS = _HINTS | {
    *_TEXT_FIELDS,
    *("content", "tool_calls", "function_call", "images", "type"),
}
_PART_FIELDS = _HINTS | {"type", *_TEXT_TYPES.values()}
_CONTROLS = ImageFields.model_fields.keys() | VideoFields.model_fields.keys()
# Beside a message or a text they would be believed in.
_BESIDE_MEDIA = _CONTROLS | {"vl_high_resolution_images"}
_MEDIA_NAMES = frozenset(
    (
        *(*_MEDIA_KEYS, "images", "videos", "audio"),
        *("files", "attachments", "experimental_attachments"),
    )
)
_NOTHING: tuple[Any, ...] = ("", [], {})  # where a medium or a text may be: there is none
# Where the model is to go on with a message, as other servers say it.
_CONTINUED = ("prefix", "partial")
_EMPTY = _MEDIA_NAMES | {"text"}
_SPEAK = ("system", "developer", "user", "tool", "function")  # whose messages have a content


@dataclass(frozen=True)
class MediaPart:
    """An image or a video to be loaded.

    Attributes:
        path: its part's place in the request.
        source: its URL, the uploaded file, or the URLs of a video's frames.
    """

    modality: str
    path: str
    source: str | Uploaded | tuple[str, ...]
    controls: ImageControls | VideoControls


@dataclass
class MessageReader:
    """Reads the messages of one request.

    Attributes:
        defaults: controls of the whole request.
        media: found so far, in the order of the prompt.
        unknown: paths of fields that mean nothing here, found so far.
        left_out: what else the model is not shown, and why.
    """

    defaults: MediaDefaults = field(default_factory=MediaDefaults)
    media: list[MediaPart] = field(default_factory=list)
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
            message["content"] = self._images(images, f"{path}.images")
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
            elif kind in _MEDIA_TYPES:
                content.append(self._medium(part, *_MEDIA_TYPES[kind], place))
            elif kind in _FILE_TYPES:
                content.append(self._file(part, place))
            else:
                known = ", ".join((*_TEXT_TYPES, *_MEDIA_TYPES, *_FILE_TYPES))
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
            if name in _MEDIA_NAMES:
                if holder[name] in _NOTHING:
                    continue
                message = f"{name} means nothing here; send parts of type image_url or video_url"
                raise InvalidRequest(message, place)
            self.unknown.append(place)

    def _images(self, images: object, path: str) -> list[dict[str, Any]]:
        """Ollama's images: base64, or URLs."""
        if not isinstance(images, list):
            raise InvalidRequest("images must be a list of base64 or of URLs", path)
        places = [f"{path}[{number}]" for number in range(len(images))]
        return [
            self._add("image", _as_url(image), {}, place, place)
            for image, place in zip(images, places, strict=True)
        ]

    def _medium(
        self, part: Mapping[str, Any], modality: str, key: str, path: str
    ) -> dict[str, Any]:
        fields = {name: value for name, value in part.items() if name != "type"}
        key = next((name for name in (key, modality, f"{modality}_url") if name in fields), key)
        source, place = fields.pop(key, None), f"{path}.{key}"
        inside: dict[str, Any] = {}
        if source is None:  # as LangChain, MCP and Anthropic put it
            nested = fields.pop("source", None)
            if isinstance(nested, dict):
                fields.update(
                    (name, value) for name, value in given(nested).items() if name != "type"
                )
            source, found = _take_source(fields, key)
            place = f"{path}.source.{found}" if isinstance(nested, dict) else f"{path}.{found}"
        elif isinstance(source, dict):
            inside = given(source)
            source, found = _take_source(inside, "url")
            place = f"{place}.{found}"
        for name in inside.keys() & fields.keys() - _HINTS:
            raise ControlError(f"{name} is given twice", f"{path}.{key}.{name}")
        try:
            return self._add(modality, source, fields | inside, path, place)
        except ControlError as error:
            name = (error.param or "").removeprefix(f"{path}.")
            if name in inside:
                error.param = f"{path}.{key}.{name}"
            raise

    def _file(self, part: Mapping[str, Any], path: str) -> dict[str, Any]:
        """OpenAI's part for files, where the file is an image or a video."""
        file, place = part, path
        if "file" in part:
            file, place = part["file"], f"{path}.file"
            if not isinstance(file, dict):
                raise InvalidRequest("file must be an object", place)
        places = (*_BASE64_KEYS, "file_url", "url")
        key = next((name for name in places if file.get(name)), "file_data")
        source, beside = _as_url(file.get(key)), ("type", "file", key)
        fields = {name: value for name, value in {**part, **file}.items() if name not in beside}
        if isinstance(source, str) and source[:5].lower() == "data:":
            named: list[Any] = [source[5:64].partition(",")[0].partition(";")[0]]
            named += [fields[name] for name in _TYPE_KEYS if name in fields]
            if isinstance(name := fields.get("filename"), str):
                named.append(mimetypes.guess_type(name[:2048])[0])
            for modality in (str(name).partition("/")[0].lower() for name in named):
                if modality in ("image", "video"):
                    return self._add(modality, source, fields, path, f"{place}.{key}")
        if (file_id := file.get("file_id")) is not None:
            modality = (*str(file_id).split("-"), "")[1]  # as the store names files
            if modality not in ("image", "video"):
                raise UnknownFile(str(file_id), f"{place}.file_id")
            return self._add(modality, None, fields, path, f"{place}.{key}")
        raise InvalidRequest(
            "of files only images and videos are served, as data:image/... or data:video/...; or "
            "send them as image_url or video_url",
            f"{place}.{key}",
        )

    def _add(
        self, modality: str, source: Any, fields: Mapping[str, Any], path: str, place: str
    ) -> dict[str, Any]:
        """Takes a medium up, whose source stands at ``place``; the part for vLLM that names it."""
        urls = [(place, source)]
        if (file_id := fields.get("file_id")) is not None:
            at = f"{place.rpartition('.')[0]}.file_id"
            if source is not None:
                raise InvalidRequest("a medium has a URL or a file_id, not both", at)
            if not isinstance(file_id, str) or not file_id:
                raise InvalidRequest("file_id must be the id of a file", at)
            source, urls = Uploaded(file_id), []
        if isinstance(source, list) and modality == "video":
            if not source:
                raise InvalidRequest("a video needs at least one frame", place)
            urls = [(f"{place}[{number}]", frame) for number, frame in enumerate(source)]
            source = tuple(source)
        for at, url in urls:
            if not isinstance(url, str) or not url.strip():
                fault = "is missing" if url is None else "must be text that is not empty"
                raise InvalidRequest(f"the URL of the medium {fault}", at)
        fields = {
            name: value
            for name, value in given(fields).items()
            if name not in _HINTS and not (name in _EMPTY and value in _NOTHING)
        }
        controls: ImageControls | VideoControls
        if modality == "image":
            controls = parse_controls(ImageControls, fields, path, self.defaults.image)
        else:
            defaults = self.defaults.video
            if isinstance(source, tuple):
                defaults = {key: value for key, value in defaults.items() if key not in RATES}
            controls = parse_controls(VideoControls, fields, path, defaults)
        name, kind = str(len(self.media)), f"{modality}_url"
        self.media.append(MediaPart(modality, path, source, controls))
        return {"type": kind, kind: None, "uuid": name}


def _take_source(fields: dict[str, Any], default: str) -> tuple[Any, str]:
    """A medium's URL, which is no longer in ``fields``, and the name that it had."""
    found = next((name for name in ("url", *_BASE64_KEYS) if name in fields), default)
    source = fields.pop(found, None)
    return _as_url(source) if found in _BASE64_KEYS else source, found


def _as_url(data: object) -> object:
    """Base64 as a URL; what is one already, or no text at all, stays."""
    if not isinstance(data, str) or not data.strip() or _URL.match(data.lstrip()):
        return data
    return f"data:;base64,{data}"

"""Chat messages -> the images and videos in them, with their controls. Pure.

Every spelling is read here, and everything that vLLM would understand differently, or silently
drop, is refused by name: vLLM sees only the text and media parts that this module writes. A medium
is named by its index among those of the request, and has no URL: vLLM fetches nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from saccade.media.controls import ImageControls, VideoControls, parse_controls
from saccade.media.errors import ControlError
from saccade.server.core.errors import InvalidRequest

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


@dataclass(frozen=True)
class ImagePart:
    """An image to be loaded. ``path`` is its part's place in the request."""

    modality: ClassVar = "image"
    path: str
    url: str
    controls: ImageControls


@dataclass(frozen=True)
class VideoPart:
    """A video to be loaded: one URL, or the URLs of its frames."""

    modality: ClassVar = "video"
    path: str
    source: str | tuple[str, ...]
    controls: VideoControls


MediaPart = ImagePart | VideoPart


def read_messages(messages: object) -> tuple[object, list[MediaPart]]:
    """A copy of ``messages`` for vLLM, and the media in them in the order of the prompt.

    Messages without parts, and whatever is not a message at all, are left to vLLM's validation.

    Raises:
        InvalidRequest: a part of unknown type or shape.
        ControlError: a control that is unknown, contradictory or out of range.
    """
    if not isinstance(messages, list):
        return messages, []
    media: list[MediaPart] = []
    rewritten = []
    for number, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        path = f"messages[{number}].content"
        if isinstance(content, list):
            message = {**message, "content": read_parts(content, path, media)}
        elif content is not None and not isinstance(content, str):
            raise InvalidRequest("content must be text or a list of parts", path)
        rewritten.append(message)
    return rewritten, media


def read_parts(parts: list[Any], path: str, media: list[MediaPart]) -> list[dict[str, Any]]:
    """One message's parts as vLLM's chat takes them; ``media`` gets the media among them.

    Raises:
        InvalidRequest, ControlError: as `read_messages`.
    """
    content: list[dict[str, Any]] = []
    for number, part in enumerate(parts):
        place = f"{path}[{number}]"
        if isinstance(part, str):
            part = {"type": "text", "text": part}
        if not isinstance(part, dict):
            raise InvalidRequest("a content part must be an object", place)
        kind = part.get("type")
        if not isinstance(kind, str):
            kind = None
        if kind in _TEXT_TYPES:
            key = _TEXT_TYPES[kind]
            if not isinstance(part.get(key), str):
                raise InvalidRequest(f"a part of type {kind!r} needs its text", f"{place}.{key}")
            # Chat templates look for these keys in any part: they would draw a placeholder of an
            # image that is not there. Other extras (cache hints of other vendors) mean nothing.
            for medium in _MEDIA_KEYS:
                if medium in part:
                    message = f"a part of type {kind!r} cannot hold {medium}"
                    raise InvalidRequest(message, f"{place}.{medium}")
            content.append({"type": key, key: part[key]})
        elif kind in _MEDIA_TYPES:
            key = "image_url" if _MEDIA_TYPES[kind][0] == "image" else "video_url"
            content.append({"type": key, key: None, "uuid": str(len(media))})
            media.append(_read_medium(part, kind, place))
        else:
            known = ", ".join((*_TEXT_TYPES, *_MEDIA_TYPES))
            named = "without a type" if kind is None else f"of type {kind[:64]!r}"
            raise InvalidRequest(f"a part {named} is not supported; use {known}", f"{place}.type")
    return content


def _read_medium(part: Mapping[str, Any], kind: str, path: str) -> MediaPart:
    modality, key = _MEDIA_TYPES[kind]
    if part.get("file_id") is not None:
        raise InvalidRequest("files are not stored; send a URL", f"{path}.file_id")
    source: Any = part.get(key)
    inside: dict[str, Any] = {}
    source_path = f"{path}.{key}"
    if isinstance(source, dict) and key.endswith("_url"):
        inside = {name: value for name, value in source.items() if name != "url"}
        source = source.get("url")
        source_path += ".url"
    fields = {name: value for name, value in part.items() if name not in ("type", key, "file_id")}
    for name in inside:
        if name in fields:
            raise ControlError(f"{name} is given twice", f"{path}.{key}.{name}")
    fields.update(inside)

    urls = [(source_path, source)]
    if isinstance(source, list) and modality == "video":
        if not source:
            raise InvalidRequest("a video needs at least one frame", source_path)
        urls = [(f"{source_path}[{number}]", frame) for number, frame in enumerate(source)]
        source = tuple(source)
    for place, url in urls:
        if not isinstance(url, str) or not url.strip():
            fault = "is missing" if url is None else "must be text that is not empty"
            raise InvalidRequest(f"the URL of the medium {fault}", place)
    try:
        if modality == "video":
            return VideoPart(path, source, parse_controls(VideoControls, fields, path))
        return ImagePart(path, source, parse_controls(ImageControls, fields, path))
    except ControlError as error:
        name = (error.param or "").removeprefix(f"{path}.")
        if name in inside:
            error.param = f"{path}.{key}.{name}"
        raise

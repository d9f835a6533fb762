"""A part of a message that is an image or a video -> the medium, with its controls. Pure.

It is named by its index among those of the request, and has no URL: vLLM fetches nothing.
"""

import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from saccade.media.controls import RATES, ImageControls, VideoControls, parse_controls
from saccade.media.errors import ControlError
from saccade.media.fetch.uploaded import Uploaded
from saccade.server.core.errors import InvalidRequest
from saccade.server.files.store import UnknownFile
from saccade.server.request.media_defaults import MediaDefaults
from saccade.server.request.spellings import given

# type of a part -> modality, and the key that holds the medium.
MEDIA_TYPES = {
    "image_url": ("image", "image_url"),
    "image": ("image", "image"),
    "input_image": ("image", "image_url"),
    "video_url": ("video", "video_url"),
    "video": ("video", "video"),
    "input_video": ("video", "video_url"),
}
MEDIA_KEYS = tuple(dict.fromkeys(key for _, key in MEDIA_TYPES.values()))
_TYPE_KEYS = ("mime_type", "mimeType", "media_type", "mediaType")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
FILE_TYPES = ("file", "input_file")
# Where else clients put base64.
_BASE64_KEYS = ("data", "base64", "file_data")
# What clients add to a part that changes nothing here.
HINTS = {
    *_TYPE_KEYS,
    *("cache_control", "prompt_cache_breakpoint", "format", "id", "index", "filename", "file_id"),
    *("metadata", "source_type", "annotations", "logprobs", "status"),
}
MEDIA_NAMES = frozenset(
    (
        *(*MEDIA_KEYS, "images", "videos", "audio"),
        *("files", "attachments", "experimental_attachments"),
    )
)
NOTHING: tuple[Any, ...] = ("", [], {})  # where a medium or a text may be: there is none
_EMPTY = MEDIA_NAMES | {"text"}


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
class MediaReader:
    """Takes up the media of one request.

    Attributes:
        defaults: controls of the whole request.
        media: found so far, in the order of the prompt.
    """

    defaults: MediaDefaults = field(default_factory=MediaDefaults)
    media: list[MediaPart] = field(default_factory=list)

    def images(self, images: object, path: str) -> list[dict[str, Any]]:
        """Ollama's images: base64, or URLs."""
        if not isinstance(images, list):
            raise InvalidRequest("images must be a list of base64 or of URLs", path)
        places = [f"{path}[{number}]" for number in range(len(images))]
        return [
            self._add("image", _as_url(image), {}, place, place)
            for image, place in zip(images, places, strict=True)
        ]

    def medium(self, part: Mapping[str, Any], path: str) -> dict[str, Any]:
        """A part whose type is one of `MEDIA_TYPES`."""
        modality, key = MEDIA_TYPES[part["type"]]
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
        for name in inside.keys() & fields.keys() - HINTS:
            raise ControlError(f"{name} is given twice", f"{path}.{key}.{name}")
        try:
            return self._add(modality, source, fields | inside, path, place)
        except ControlError as error:
            name = (error.param or "").removeprefix(f"{path}.")
            if name in inside:
                error.param = f"{path}.{key}.{name}"
            raise

    def file(self, part: Mapping[str, Any], path: str) -> dict[str, Any]:
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
            if name not in HINTS and not (name in _EMPTY and value in NOTHING)
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

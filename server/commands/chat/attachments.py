"""Images and videos that a person names, as content parts of a chat request."""

import base64
import mimetypes
import shlex
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image, ImageOps

from saccade.media.decode.formats import name_format

_URL_SCHEMES = ("http", "https", "data")
_VIDEO_TYPES = {
    "an MP4 video": "video/mp4",
    "a QuickTime video": "video/quicktime",
    "a 3GP video": "video/3gpp",
    "a WebM video": "video/webm",
    "a Matroska video (MKV)": "video/x-matroska",
    "an AVI video": "video/x-msvideo",
    "an FLV video": "video/x-flv",
    "an Ogg file (OGV)": "video/ogg",
    "a Windows Media file (WMV)": "video/x-ms-wmv",
    "an MPEG-1 or MPEG-2 video (MPG)": "video/mpeg",
    "an MPEG transport stream (TS)": "video/mp2t",
    "a GIF image": "image/gif",
}
# What an image has of the controls; a video has all of them.
IMAGE_CONTROLS = ("min_pixels", "max_pixels", "resized_width", "resized_height")


class AttachmentError(Exception):
    """One line that says which file cannot be attached, and why."""


class Attachment:
    """One image or video and the part that it becomes.

    Attributes:
        name: one line for the person.
        part: the content part, OpenAI's ``image_url`` or ``video_url``.
    """

    def __init__(self, kind: str, name: str, url: str, controls: Mapping[str, float]) -> None:
        self.name = name
        own = {
            key: value
            for key, value in controls.items()
            if kind == "video" or key in IMAGE_CONTROLS
        }
        field = f"{kind}_url"
        self.part: dict[str, Any] = {"type": field, field: {"url": url}, **own}

    @property
    def picture(self) -> Image.Image | None:
        """The image, as `picture_of` has it."""
        return picture_of(self.part)


def attach(kind: str, source: str, controls: Mapping[str, float]) -> Attachment:
    """The attachment for a file or a URL.

    Args:
        kind: image or video.
        source: the path of a file, or a URL of scheme http, https, data or file.
        controls: Qwen's; those that an image does not have stay away from images.

    Raises:
        AttachmentError: there is no such file, it cannot be read, or it is of another kind.
    """
    if scheme_of(source) in _URL_SCHEMES:
        return Attachment(kind, f"{kind}: {source[:80]}", source, controls)
    path = _path(source)
    data = _read(path)
    media_type, described = _image_type(data, path) if kind == "image" else _video_type(data, path)
    name = f"{kind}: {path.name}, {described}, {len(data):,} bytes"
    return Attachment(kind, name, data_url(media_type, data), controls)


def attach_pasted(picture: Image.Image, controls: Mapping[str, float]) -> Attachment:
    """The attachment for an image from the clipboard."""
    file = BytesIO()
    picture.convert("RGBA" if picture.has_transparency_data else "RGB").save(file, "PNG")
    name = f"image: pasted, {picture.width} x {picture.height}"
    return Attachment("image", name, data_url("image/png", file.getvalue()), controls)


def dragged(line: str) -> list[tuple[str, str]]:
    """(kind, path) of each file on a line that holds nothing but images and videos, else none.

    Terminals write the path of a file that is dropped on them with quotes, with backslashes, or
    as a file: URL. A single path whose end says image or video counts without looking, so that
    attaching it says what is wrong with it.
    """
    try:
        words = shlex.split(line)
    except ValueError:
        return []
    if len(words) == 1 and "/" in words[0] and scheme_of(words[0]) not in _URL_SCHEMES:
        guessed = (mimetypes.guess_type(words[0])[0] or "").partition("/")[0]
        if guessed in ("image", "video"):
            return [(guessed, words[0])]
    found = []
    for word in words:
        try:
            path = _path(word)
            data = _read(path)
        except AttachmentError:
            return []
        for kind, type_of in (("image", _image_type), ("video", _video_type)):
            try:
                type_of(data, path)
            except AttachmentError:
                continue
            found.append((kind, str(path)))
            break
        else:
            return []
    return found


def data_url(media_type: str, data: bytes) -> str:
    """The file as a data: URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def picture_of(part: Mapping[str, Any]) -> Image.Image | None:
    """The image in a content part, upright, RGB, transparency on white; None where there is none.

    None also for an image behind an http: URL, and for one that does not decode.
    """
    if part.get("type") != "image_url":
        return None
    address = part.get("image_url")
    url = address.get("url") if isinstance(address, Mapping) else address
    if not isinstance(url, str) or not url.startswith("data:"):
        return None
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))) as image,
        ):
            upright = ImageOps.exif_transpose(image)
            if not upright.has_transparency_data:
                return upright.convert("RGB")
            layer = upright.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    white = Image.new("RGBA", layer.size, "white")
    white.alpha_composite(layer)
    return white.convert("RGB")


def scheme_of(source: str) -> str:
    """The scheme of a URL in lower case; empty for a path."""
    scheme, separator, _ = source.partition(":")
    return scheme.lower() if separator and scheme.isalpha() else ""


def _path(source: str) -> Path:
    try:
        if scheme_of(source) == "file":
            source = unquote(urlsplit(source).path)
        return Path(source).expanduser()
    except (RuntimeError, ValueError) as error:
        raise AttachmentError(f"{source}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise AttachmentError(f"{path}: is no file")
        return path.read_bytes()
    except OSError as error:
        raise AttachmentError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte in its name
        raise AttachmentError(f"{str(path)!r}: {error}") from error


def _image_type(data: bytes, path: Path) -> tuple[str, str]:
    """(media type, what to tell) of an image, by its content."""
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(BytesIO(data)) as image,
        ):
            media_type = Image.MIME.get(image.format or "")
            described = f"{image.width} x {image.height}, {image.format}"
    except Image.DecompressionBombError as error:
        raise AttachmentError(f"{path}: too many pixels for an image") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise AttachmentError(f"{path}: {_unlike('image', data)}") from error
    if media_type is None or not media_type.startswith("image/"):
        raise AttachmentError(f"{path}: {_unlike('image', data)}")
    return media_type, described


def _video_type(data: bytes, path: Path) -> tuple[str, str]:
    """Likewise of a video, by its first bytes; where they say nothing, by the end of its name."""
    named = name_format(data)
    media_type = _VIDEO_TYPES.get(named)
    if media_type is None and named == "a file of no known format":
        guessed = mimetypes.guess_type(path.name)[0] or ""
        media_type = guessed if data and guessed.startswith("video/") else None
    if media_type is None:
        raise AttachmentError(f"{path}: {_unlike('video', data)}")
    return media_type, named.partition(" ")[2]


def _unlike(kind: str, data: bytes) -> str:
    return f"is no {kind} but {name_format(data)}" if data else "is empty"

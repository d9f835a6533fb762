"""A folder of images as a batch: the same question about each."""

import base64
import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from saccade.server.commands.batch.errors import BatchUsageError
from saccade.server.commands.batch.requests import BatchRequest, hash_texts

_MEDIA_TYPES = {
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
_URL = "/v1/chat/completions"


def read_schema(path: Path) -> dict[str, Any]:
    """A JSON schema of an object.

    Raises:
        BatchUsageError: the file cannot be read, or is none.
    """
    try:
        schema = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BatchUsageError(f"--schema: {path}: {error}") from None
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        raise BatchUsageError(f"--schema: {path}: must be a JSON schema with properties")
    return schema


def chat_body(
    model: str, prompt: str, schema: dict[str, Any] | None, max_tokens: int | None
) -> dict[str, Any]:
    """What the requests have in common: a chat request that lacks its image."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": [{"type": "text", "text": prompt}]}],
    }
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    if schema is not None:
        name = re.sub(r"[^A-Za-z0-9_-]", "_", str(schema.get("title") or "answer"))[:64]
        described = {"name": name, "schema": schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    return body


class ImageFolder:
    """One chat request an image, by name; `custom_id` is the path below the folder."""

    def __init__(
        self, folder: Path, body: dict[str, Any], *, recursive: bool, file_urls: bool
    ) -> None:
        self.name = str(folder)
        self._folder = folder
        self._body = body
        self._recursive = recursive
        self._file_urls = file_urls

    def __iter__(self) -> Iterator[BatchRequest]:
        common = json.dumps(self._body)
        for path in self._images(self._folder):
            custom_id = path.relative_to(self._folder).as_posix()
            try:
                size = path.stat().st_size
            except OSError as error:
                raise BatchUsageError(f"{path}: {error.strerror}") from None
            # Its bytes are not read before it is sent.
            key = hash_texts(custom_id, common, str(size))
            yield BatchRequest(custom_id, _URL, key, str(path), partial(self._read_body, path))

    def _images(self, folder: Path) -> Iterator[Path]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise BatchUsageError(f"{folder}: {error.strerror}") from None
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if self._recursive:
                    yield from self._images(Path(entry.path))
            elif Path(entry.name).suffix.lower() in _MEDIA_TYPES and entry.is_file():
                yield Path(entry.path)

    def _read_body(self, path: Path) -> bytes:
        if self._file_urls:
            url = path.resolve().as_uri()
        else:
            encoded = base64.b64encode(path.read_bytes()).decode()
            url = f"data:{_MEDIA_TYPES[path.suffix.lower()]};base64,{encoded}"
        (message,) = self._body["messages"]
        content = [{"type": "image_url", "image_url": {"url": url}}, *message["content"]]
        return json.dumps({**self._body, "messages": [{**message, "content": content}]}).encode()

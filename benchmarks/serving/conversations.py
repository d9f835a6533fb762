"""Conversations about the same media, as clients send them: all of it again with every turn.

What the model has said stands in them as the same word for every server, so that all get the same
bytes.
"""

import base64
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from saccade.benchmarks.common.workloads import draw_image, encode_jpeg, encode_mp4, pan, repeated

_SAID = "I see."
_QUESTIONS = ("What is this?", "And what else?", "Which colours are there?", "Is there any text?")
_PHOTOS, _PHOTO = 8, (1024, 768)
_CLIP, _CLIP_SECONDS, _SEGMENT, _RATE = (1920, 1080), 60, 6, 30
_SCREENS, _SCREEN = 12, (640, 400)
_TURNS = {"video": 10, "chat": 8, "agent": 8}
NAMES = tuple(_TURNS)
"""Ten questions about a video; eight about eight photographs; an agent, each turn of which sees one
more screenshot and drops the oldest of twelve."""


@dataclass(frozen=True)
class File:
    """A medium as it is sent."""

    kind: str  # image or video
    media_type: str
    data: bytes

    @property
    def name(self) -> str:
        """Of its content, to be served under."""
        return hashlib.sha256(self.data).hexdigest()[:16]

    @property
    def url(self) -> str:
        """With its content."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Conversation:
    """One of ``NAMES``: what each turn asks about which of its files."""

    name: str
    files: tuple[File, ...]
    turns: int

    def messages(self, turn: int, urls: Sequence[str]) -> list[dict[str, Any]]:
        """Of the request of a turn, counted from zero.

        Args:
            urls: of the files.
        """
        shown, asked = range(len(self.files)), range(turn + 1)
        if self.name == "agent":
            shown, asked = range(turn, turn + _SCREENS), range(turn, turn + 1)
        parts: list[dict[str, Any]] = [
            {"type": f"{file.kind}_url", f"{file.kind}_url": {"url": url}}
            for file, url in list(zip(self.files, urls, strict=True))[shown.start : shown.stop]
        ]
        messages: list[dict[str, Any]] = []
        for number in asked:
            text = {"type": "text", "text": _QUESTIONS[number % len(_QUESTIONS)]}
            content = [*parts, text] if number == asked[0] else [text]
            messages += [
                {"role": "user", "content": content},
                {"role": "assistant", "content": _SAID},
            ]
        return messages[:-1]

    def body(self, turn: int, model: str, max_tokens: int, urls: Sequence[str]) -> bytes:
        """The request of a turn, counted from zero.

        Args:
            urls: of the files.
        """
        body = {
            "model": model,
            "messages": self.messages(turn, urls),
            "max_tokens": max_tokens,
            "min_tokens": max_tokens,  # the bundled model has nothing to say about most of it
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(body).encode()


def make_conversation(name: str, seed: int) -> Conversation:
    """One whose files no server has seen before it was asked with this seed."""
    turns = _TURNS[name]
    if name == "video":
        segment = encode_mp4(pan(*_CLIP, _SEGMENT * _RATE, seed, 0), *_CLIP, _RATE)
        file = File("video", "video/mp4", repeated(segment, _CLIP_SECONDS // _SEGMENT))
        return Conversation(name, (file,), turns)
    if name == "chat":
        files = (encode_jpeg(draw_image(*_PHOTO, seed, index)) for index in range(_PHOTOS))
        return Conversation(name, tuple(File("image", "image/jpeg", file) for file in files), turns)
    screens = (_screenshot(seed, index) for index in range(_SCREENS + turns - 1))
    return Conversation(name, tuple(File("image", "image/png", file) for file in screens), turns)


def _screenshot(seed: int, index: int) -> bytes:
    """Flat areas, edges and lines of text, as PNG."""
    random = np.random.default_rng([seed, index])
    image = Image.new("RGB", _SCREEN, (246, 246, 248))
    pen = ImageDraw.Draw(image)
    for _ in range(40):
        x, y = (int(random.integers(side)) for side in _SCREEN)
        width, height = (int(side) for side in random.integers(20, 300, 2))
        paint = tuple(int(level) for level in random.integers(0, 256, 3))
        pen.rectangle((x, y, x + width, y + height), fill=paint, outline=(90, 90, 90))
        letters = "".join(chr(97 + int(letter)) for letter in random.integers(0, 26, 30))
        pen.text((x + 4, y + 4), letters, fill=(20, 20, 20))
    image.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[tuple[str, Callable[[], int]]]:
    """Serves files by name on this machine, with validators: the URL before a name, and a function
    that tells how many bytes have been sent."""
    sent = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            nonlocal sent
            name = self.path.lstrip("/")
            known = self.headers["If-None-Match"] == f'"{name}"'
            data = b"" if known else files[name]
            self.send_response(304 if known else 200)
            self.send_header("ETag", f'"{name}"')
            if not known:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            sent += len(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", lambda: sent
    finally:
        server.shutdown()
        server.server_close()

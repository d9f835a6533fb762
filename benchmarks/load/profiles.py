"""What `saccade bench load` sends: named kinds of requests, each a pure function of a seed.

Every image and video is another one, so that no cache of a server helps, but for the image that the
turns of a conversation share.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from saccade.benchmarks.common.workloads import (
    FRAMING_TOKENS,
    draw_image,
    encode_jpeg,
    encode_mp4,
    image_tokens,
    pan,
    video_tokens,
)
from saccade.benchmarks.serving.conversations import Conversation, File

_SMALL, _LARGE = (448, 448), (1024, 768)
_VIDEO, _FRAMES, _RATE = (448, 336), 96, 24  # four seconds
_IMAGES = 8  # of a prompt with many
_TURNS, _TALKS = 4, 4  # of a conversation; conversations at a time
_NUMBERS = 64  # images that one request may have, so that no two requests share one
_SHARED = _NUMBERS - 1  # the number of the image that a conversation is about

Message = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One request: its messages, and what is known of its answer."""

    messages: list[Message]
    media_tokens: int = 0  # planned for its media, with those that frame each
    answer: str | None = None  # the right one, where it is known


@dataclass(frozen=True)
class Profile:
    """A family of requests."""

    told: str
    make: Callable[[int, int], Sample]  # of a seed and an index

    def samples(self, seed: int, indices: range) -> list[Sample]:
        """Several requests, made in parallel (encoders release the interpreter lock)."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(partial(self.make, seed), indices))


def _image(size: tuple[int, int], seed: int, index: int) -> Sample:
    return _ask("Describe this image.", [_jpeg(*size, seed, _NUMBERS * index)], image_tokens(*size))


def _images(seed: int, index: int) -> Sample:
    first = _NUMBERS * index + 1
    files = [_jpeg(*_SMALL, seed, number) for number in range(first, first + _IMAGES)]
    return _ask("What do these images have in common?", files, image_tokens(*_SMALL))


def _video(seed: int, index: int) -> Sample:
    data = encode_mp4(pan(*_VIDEO, _FRAMES, seed, index), *_VIDEO, _RATE)
    file = File("video", "video/mp4", data)
    return _ask("What happens in this video?", [file], video_tokens(*_VIDEO, _FRAMES, _RATE))


def _conversation(seed: int, index: int) -> Sample:
    # Turn by turn, so that a follow-up comes when the turn before it has been sent for a while.
    block, rest = divmod(index, _TURNS * _TALKS)
    turn, talk = divmod(rest, _TALKS)
    number = _NUMBERS * (block * _TALKS + talk) + _SHARED
    file = _jpeg(*_LARGE, seed, number)
    messages = Conversation("chat", (file,), _TURNS).messages(turn, [file.url])
    return Sample(messages, image_tokens(*_LARGE) + FRAMING_TOKENS)


def _mixed(seed: int, index: int) -> Sample:
    turn, part = divmod(index, len(_PARTS))
    return _PARTS[part](seed, turn)


@lru_cache(maxsize=4 * _TALKS)
def _jpeg(width: int, height: int, seed: int, number: int) -> File:
    return File("image", "image/jpeg", encode_jpeg(draw_image(width, height, seed, number)))


def _ask(question: str, files: list[File], tokens: int) -> Sample:
    """A question about files that cost so many tokens each."""
    parts: list[Message] = [
        {"type": f"{file.kind}_url", f"{file.kind}_url": {"url": file.url}} for file in files
    ]
    content = [*parts, {"type": "text", "text": question}]
    media_tokens = len(files) * (tokens + FRAMING_TOKENS)
    return Sample([{"role": "user", "content": content}], media_tokens)


_small, _large = partial(_image, _SMALL), partial(_image, _LARGE)
_PARTS = (_small, _large, _images, _video, _conversation)
PROFILES = {
    "image-448": Profile("an image of 448x448", _small),
    "image-1024": Profile("an image of 1024x768", _large),
    "images-8": Profile("eight images of 448x448", _images),
    "video": Profile("a video of 448x336, four seconds at 24 frames a second", _video),
    "conversation": Profile(
        "a turn of four about one image of 1024x768, of four conversations at a time", _conversation
    ),
    "mixed": Profile("the five others by turns", _mixed),
}

"""The requests of a batch, and OpenAI's batch files of them.

https://platform.openai.com/docs/api-reference/batch/request-input
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from saccade.server.commands.batch.errors import BatchUsageError


@dataclass(frozen=True)
class BatchRequest:
    """One request. `key` stands for all of it: 64 bits, equal if and only if it is the same."""

    custom_id: str
    url: str  # the path
    key: int
    place: str  # where it stands, for errors
    read_body: Callable[[], bytes]  # JSON; raises OSError


class BatchInput(Protocol):
    """Requests that can be gone through more than once, in the same order."""

    name: str

    def __iter__(self) -> Iterator[BatchRequest]:
        """Raises BatchUsageError, which names the place."""


class JSONLinesInput:
    """An OpenAI batch file. One line is in memory at a time."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def __iter__(self) -> Iterator[BatchRequest]:
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if number == 1:
                        line = line.removeprefix(b"\xef\xbb\xbf")
                    if line.strip():
                        yield _parse(line, f"{self.name}, line {number}")
        except OSError as error:
            raise BatchUsageError(f"{self.name}: {error.strerror}") from None


def hash_texts(*texts: str) -> int:
    """64 bits of the texts and of where one ends and the next begins."""
    encoded = json.dumps(texts).encode()  # lone surrogates of file names are escaped
    return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "big")


def check_input(requests: BatchInput) -> set[int]:
    """Goes through all requests; returns their keys.

    Raises:
        BatchUsageError: one is wrong, two have the same custom_id, or there are none.
    """
    keys, places = set[int](), dict[int, int]()
    for position, request in enumerate(requests):
        first = places.setdefault(hash_texts(request.custom_id), position)
        if first != position:
            earlier = next(one for at, one in enumerate(requests) if at == first)
            raise BatchUsageError(
                f"{request.place}: custom_id {request.custom_id!r} is also that of {earlier.place}"
            )
        keys.add(request.key)
    if not keys:
        raise BatchUsageError(f"{requests.name}: there is nothing to send")
    return keys


def _parse(line: bytes, place: str) -> BatchRequest:
    def refuse(what: str) -> BatchUsageError:
        return BatchUsageError(f"{place}: {what}")

    try:
        item: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise refuse(f"is no JSON: {error}") from None
    if not isinstance(item, dict):
        raise refuse("must be a JSON object")
    custom_id, url, body = item.get("custom_id"), item.get("url"), item.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        raise refuse("custom_id must be a string that is not empty")
    if item.get("method") != "POST":
        raise refuse(f"method must be POST, not {json.dumps(item.get('method'))}")
    if not isinstance(url, str) or not url.startswith("/v1/"):
        raise refuse(f"url must be a path like /v1/chat/completions, not {json.dumps(url)}")
    if not isinstance(body, dict):
        raise refuse("body must be a JSON object")
    if body.get("stream"):
        raise refuse("body.stream: a batch cannot stream")
    text = json.dumps(body)
    return BatchRequest(custom_id, url, hash_texts(custom_id, url, text), place, text.encode)

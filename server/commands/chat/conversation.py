"""A conversation as OpenAI messages: what is sent, saved and loaded. Knows no server."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from saccade.server.commands.chat.attachments import Attachment, picture_of

_MEDIA_TYPES = ("image_url", "video_url")
_ROLES = ("system", "user", "assistant")


class ConversationError(Exception):
    """One line that says why a conversation cannot be saved or loaded."""


class Conversation:
    """The system text, the turns, and what is attached to the next question.

    Attributes:
        system: empty for none.
        turns: messages of user and assistant, in turn.
        attached: goes with the next question.
    """

    def __init__(self, system: str = "") -> None:
        self.system = system
        self.turns: list[dict[str, Any]] = []
        self.attached: list[Attachment] = []
        self._asked_with: list[Attachment] = []
        self._ours: set[Path] = set()  # files that may be written over

    def messages(self) -> list[dict[str, Any]]:
        """What is sent."""
        system = [{"role": "system", "content": sendable(self.system)}] if self.system else []
        return [*system, *self.turns]

    def ask(self, question: str) -> None:
        """Appends a question with all that is attached."""
        text = sendable(question)
        parts = [attachment.part for attachment in self.attached]
        content = [*parts, {"type": "text", "text": text}] if parts else text
        self.turns.append({"role": "user", "content": content})
        self._asked_with, self.attached = self.attached, []

    def answer(self, text: str) -> None:
        """Appends the answer to the last question."""
        self.turns.append({"role": "assistant", "content": sendable(text)})

    def take_back(self) -> None:
        """Removes a question without an answer; its attachments wait for the next one."""
        self.turns.pop()
        self.attached = self._asked_with

    def undo(self) -> bool:
        """Removes what is attached, or else the last question and its answer; False for neither."""
        if self.attached:
            self.attached = []
            return True
        questions = [at for at, turn in enumerate(self.turns) if turn["role"] == "user"]
        del self.turns[questions[-1] if questions else 0 :]
        return bool(questions)

    def clear(self) -> None:
        """Forgets all but the system text."""
        self.turns, self.attached = [], []

    def last_image(self) -> tuple[int, Image.Image | None] | None:
        """(place among all images and videos from 0, the image if it is here) of the last image."""
        media = list(_media(self.turns))
        for place in range(len(media) - 1, -1, -1):
            if media[place]["type"] == "image_url":
                return place, picture_of(media[place])
        return None

    def has_media(self) -> bool:
        """Whether there is an image or a video in it."""
        return any(True for _ in _media(self.turns))

    def save(self, path: Path, media: bool = True) -> None:
        """Writes the messages as a JSON list; without ``media``, in their place, what they were.

        Raises:
            ConversationError: the file cannot be written, or is there and not of this session.
        """
        messages = self.messages() if media else list(map(_without_media, self.messages()))
        try:
            mode = "w" if path.resolve() in self._ours else "x"
            with path.open(mode, encoding="utf-8") as file:
                json.dump(messages, file, ensure_ascii=False, indent=1)
                file.write("\n")
            self._ours.add(path.resolve())
        except FileExistsError as error:
            raise ConversationError(f"{path} exists; choose another name") from error
        except OSError as error:
            raise ConversationError(f"{path}: {error.strerror or error}") from error

    def load(self, path: Path) -> None:
        """Replaces the conversation by that of a file: a list of messages, or a request's body.

        Raises:
            ConversationError: it cannot be read, or holds something else; nothing has changed.
        """
        try:
            found = json.loads(path.read_bytes())
        except OSError as error:
            raise ConversationError(f"{path}: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise ConversationError(f"{path}: is no JSON ({error})") from error
        messages = found.get("messages") if isinstance(found, dict) else found
        if not isinstance(messages, list):
            raise ConversationError(f"{path}: holds no list of messages")
        for at, message in enumerate(messages):
            if reason := _wrong(message, at):
                raise ConversationError(f"{path}: messages[{at}] {reason}")
        system = messages[0]["content"] if messages and messages[0]["role"] == "system" else ""
        self.clear()
        self.system = system
        self.turns = messages[1:] if system else messages
        self._ours.add(path.resolve())


def sendable(text: str) -> str:
    """The text without halves of surrogate pairs, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _media(messages: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in messages:
        if isinstance(message["content"], list):
            yield from (part for part in message["content"] if part["type"] in _MEDIA_TYPES)


def _without_media(message: dict[str, Any]) -> dict[str, Any]:
    if isinstance(message["content"], str):
        return message
    content = [
        {"type": "text", "text": f"[{part['type'].removesuffix('_url')}]"}
        if part["type"] in _MEDIA_TYPES
        else part
        for part in message["content"]
    ]
    return {**message, "content": content}


def _wrong(message: object, at: int) -> str:
    """What is wrong with a message of a file; empty if nothing."""
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        return f"has no role of {', '.join(_ROLES)}"
    if message["role"] == "system" and at:
        return "is of role system, which only the first may be"
    content = message.get("content")
    try:
        json.dumps(content, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return "holds half of a surrogate pair"
    if isinstance(content, str):
        return ""
    if message["role"] == "system" or not isinstance(content, list):
        return "has no text as its content"
    if not all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in content):
        return "has a content part without a type"
    return ""

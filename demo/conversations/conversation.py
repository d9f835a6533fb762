"""A conversation about images and videos, as it is asked for and as it is answered.

Messages are those of OpenAI's API, but that a medium is only ``{"type": "image"}`` or
``{"type": "video"}``: which one it is, its place among the conversation's media tells.
"""

from dataclasses import dataclass, field
from typing import Any

from saccade.demo.conversations.facts import Fact
from saccade.demo.world.clips import Clip
from saccade.demo.world.examples import Example
from saccade.demo.world.questions import Seen
from saccade.demo.world.scenes import Box


@dataclass(frozen=True)
class Medium:
    """An image or video, and what can be asked of it."""

    kind: str  # image or video
    example: Example
    facts: list[Fact] = field(default_factory=list)
    things: list[Seen] = field(default_factory=list)
    clip: Clip | None = None  # of a video
    fps: float = 0.0  # at which it is sampled


@dataclass(frozen=True)
class Said:
    """A message of the model.

    Attributes:
        text: as the chat template writes it.
        given: spans of characters that are not learned: a grammar leaves no choice.
        punctuation: spans between keys that are given and their values, which only the last phase
            of training learns.
        spots: as a question's, of ``text``.
        moments: phrases of the message before, and the second that each names.
        task: what was asked.
        number: which of several media of a kind it is about, counted from zero.
    """

    text: str
    given: tuple[tuple[int, int], ...] = ()
    punctuation: tuple[tuple[int, int], ...] = ()
    spots: tuple[tuple[int, Box], ...] = ()
    moments: tuple[tuple[str, int], ...] = ()
    task: str = ""
    number: int | None = None


@dataclass
class Conversation:
    """Messages in turn, the last one the model's; ``said`` are those of the model."""

    media: list[Medium] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)

    def copy(self) -> "Conversation":
        """One that goes on by itself."""
        return Conversation(*(list(part) for part in vars(self).values()))

    def system(self, text: str | None) -> None:
        """The system prompt; None: there is none."""
        if text is not None:
            self.messages.append({"role": "system", "content": text})

    def user(self, *parts: "str | Medium", role: str = "user", **fields: Any) -> None:
        """A message of the user, or of a tool, from text and media; empty text is left out."""
        content = []
        for part in parts:
            if isinstance(part, Medium):
                self.media.append(part)
                content.append({"type": part.kind})
            elif part:
                content.append({"type": "text", "text": part})
        self.messages.append({"role": role, "content": content, **fields})

    def answer(self, said: Said) -> None:
        """A message of the model."""
        self.messages.append({"role": "assistant", "content": said.text})
        self.said.append(said)

    def call(self, call: dict[str, Any], said: Said) -> None:
        """A message of the model that is a call."""
        self.messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        self.said.append(said)

"""What a conversation needs of its chat template, and conversations made to try templates. Pure.

Conversations are vLLM's: the content of a message is text, or a list of parts
``{"type": "text", "text": ...}``, ``{"type": "image"}`` and ``{"type": "video"}``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

Message = Mapping[str, Any]

MODALITIES = ("image", "video")
_TOOL = {
    "type": "function",
    "function": {
        "name": "probe_function",
        "description": "probedescription",
        "parameters": {"type": "object", "properties": {"probeproperty": {"type": "string"}}},
    },
}


@dataclass(frozen=True)
class Shape:
    """Which features occur in a conversation, whatever its texts say.

    Attributes:
        turns: pairs of a role and ``text``, ``image``, ``video`` or ``tool_calls``. The role of a
            system message that is not the first message is ``late system``.
        tools: whether functions are offered.
        media_ids: whether media are to be numbered (``add_vision_id``).
    """

    turns: frozenset[tuple[str, str]]
    tools: bool = False
    media_ids: bool = False

    @classmethod
    def of(cls, conversation: Sequence[Message], options: Mapping[str, Any]) -> "Shape":
        """The shape of a conversation that is rendered with ``options``."""
        turns: set[tuple[str, str]] = set()
        for index, message in enumerate(conversation):
            role = message["role"]
            if role in ("system", "developer"):
                role = "late system" if index else "system"
            content = message.get("content")
            if isinstance(content, list):
                turns.update((role, part.get("type", "text")) for part in content)
            else:
                turns.add((role, "text"))
            if message.get("tool_calls"):
                turns.add((role, "tool_calls"))
        shape = cls(frozenset(turns), bool(options.get("tools")))
        return replace(shape, media_ids=bool(options.get("add_vision_id")) and shape.has_media)

    @property
    def is_plain(self) -> bool:
        """Whether it is text alone: no media, no tools, nothing of their use."""
        return not self.tools and all(
            what == "text" and role in ("system", "late system", "user", "assistant")
            for role, what in self.turns
        )

    @property
    def uses_tools(self) -> bool:
        """Whether functions are offered or were called."""
        return self.tools or any(
            "tool" in role or what == "tool_calls" for role, what in self.turns
        )

    @property
    def has_media(self) -> bool:
        """Whether there are images or videos."""
        return any(what in MODALITIES for _, what in self.turns)


@dataclass(frozen=True)
class Probe:
    """A conversation of a certain shape, and what its prompt must hold.

    Attributes:
        expected: words, and modalities for the placeholders of media, in the order of the prompt.
        anywhere: words whose place is the template's choice.
        instructions: those of the expected words that are in system messages.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    expected: list[str]
    anywhere: tuple[str, ...]
    instructions: frozenset[str]


def probe(shape: Shape) -> Probe:
    """A small conversation that has every feature of ``shape``."""
    messages: list[dict[str, Any]] = []
    expected: list[str] = []
    instructions: set[str] = set()
    roles = {role for role, _ in shape.turns}
    words = (f"probeword{number}x" for number in count())

    def say(role: str, features: Iterable[str]) -> None:
        wanted = set(features)
        parts = list(_parts(wanted, words))
        expected.extend(part.get("text", part["type"]) for part in parts)
        if role in ("system", "late system"):
            instructions.update(part["text"] for part in parts if "text" in part)
        plain = len(parts) == 1 and parts[0]["type"] == "text"
        message: dict[str, Any] = {
            "role": "system" if role == "late system" else role,
            "content": parts[0]["text"] if plain else parts,
        }
        if "tool_calls" in wanted:
            value = next(words)
            function = {"name": "probe_function", "arguments": {"probeproperty": value}}
            message["tool_calls"] = [{"id": "1", "type": "function", "function": function}]
            expected.extend(("probe_function", value))
        messages.append(message)

    def features(role: str) -> set[str]:
        return {what for who, what in shape.turns if who == role}

    if "system" in roles:
        say("system", features("system"))
    say("user", features("user"))
    if "assistant" in roles:
        say("assistant", features("assistant"))
    for role in sorted(roles - {"system", "user", "assistant", "late system"}):
        say(role, features(role))
        say(role, features(role))  # tools answer side by side
    if "late system" in roles:
        say("late system", features("late system"))
    if messages[-1]["role"] != "user":
        say("user", {"text"})  # some templates refuse two turns of one role
    anywhere = ("probe_function", "probedescription", "probeproperty") if shape.tools else ()
    tools = [_TOOL] if shape.tools else None
    return Probe(messages, tools, expected, anywhere, frozenset(instructions))


def _parts(features: set[str], words: Iterator[str]) -> Iterator[dict[str, str]]:
    yield {"type": "text", "text": next(words)}
    for modality in MODALITIES:
        if modality in features:
            yield {"type": modality}
            yield {"type": "text", "text": next(words)}


def first_media(conversation: Sequence[Message], modality: str, limit: int) -> list[dict[str, Any]]:
    """A copy of ``conversation`` in which only the first media of a modality are left."""
    left = limit
    rewritten = []
    for message in conversation:
        message = dict(message)
        if isinstance(content := message.get("content"), list):
            kept = []
            for part in content:
                if part.get("type") == modality:
                    left -= 1
                    if left < 0:
                        continue
                kept.append(part)
            message["content"] = kept
        rewritten.append(message)
    return rewritten


def keep_media_of_developers(conversation: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Makes system messages of a developer's where there are media in either.

    vLLM would merge them into one text for templates that know no developer.
    """
    roles = ("system", "developer")
    instructions = [message for message in conversation if message["role"] in roles]
    contents = (content for one in instructions if isinstance(content := one.get("content"), list))
    if any(part.get("type") in MODALITIES for content in contents for part in content):
        return [
            {**message, "role": "system"} if message["role"] == "developer" else message
            for message in conversation
        ]
    return conversation

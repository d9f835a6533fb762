"""Which chat template renders a conversation: the checkpoint's own wherever one of them can.

Published Qwen2.5-VL checkpoints carry two templates, one with images and videos but no tools, and
one with tools but text only. Conversations of text alone are always rendered by the checkpoint's
own, and so are those whose features one of its templates has; what none of them has is rendered
by the template of this package, with the checkpoint's default system prompt. Whether a template
has a feature is found out by rendering a small conversation with it, once for every shape.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from saccade.server.core.errors import InvalidRequest
from saccade.server.engine.prompt.conversation_shape import Message, Shape, probe

TEMPLATE = Path(__file__).with_name("chat_template.jinja")
"""The template of this package: images, videos, tools and their use, in every role."""

# (template, conversation, options of the template) -> prompt; raises what the template raises.
Render = Callable[[str, Sequence[Message], Mapping[str, Any]], str]

_USER = ("user", "text")
FEATURES = {
    "images": Shape(frozenset({("user", "image")})),
    "videos": Shape(frozenset({("user", "video")})),
    "numbered media (add_vision_id)": Shape(
        frozenset({("user", "image"), ("user", "video")}), media_ids=True
    ),
    "media in system messages": Shape(frozenset({("system", "image"), ("system", "video")})),
    "media in assistant messages": Shape(
        frozenset({("assistant", "image"), ("assistant", "video")})
    ),
    "tools": Shape(frozenset({_USER}), tools=True),
    "tool calls and their results": Shape(
        frozenset({_USER, ("assistant", "tool_calls"), ("tool", "text")}), tools=True
    ),
    "tools beside media": Shape(frozenset({("user", "image"), ("user", "video")}), tools=True),
    "tools beside media in system messages": Shape(
        frozenset({("system", "image"), ("system", "video")}), tools=True
    ),
    "media in tool results": Shape(
        frozenset(
            {_USER, ("assistant", "tool_calls"), ("tool", "image"), ("tool", "video")},
        ),
        tools=True,
    ),
}
"""What a whole template has, by the name under which a lack of it is reported."""


class MediaNotInPrompt(InvalidRequest):
    """The chat template has no place for a medium.

    Args:
        modality: ``image`` or ``video``.
        index: which of the conversation's media of this modality; its path is known elsewhere.
    """

    code = "media_not_in_prompt"

    def __init__(self, modality: str, index: int) -> None:
        super().__init__(
            f"the chat template puts no {modality} into the prompt here; "
            f"send the {modality} in a message of the user, or serve with another --chat-template",
            "messages",
        )
        self.modality, self.index = modality, index


class Template:
    """A chat template, and what it can render.

    Args:
        source: where it comes from, for people.
        placeholders: the token that stands for a medium, by modality.

    Attributes:
        options: what it is always rendered with.
        takes_parts: whether it writes the text of a message's parts.
        separator: what is between parts of text where it takes text alone: vLLM's, which leaves
            empty parts out, unless it is changed.
    """

    def __init__(
        self, source: str, text: str, render: Render, placeholders: Mapping[str, str]
    ) -> None:
        self.source, self.text = source, text
        self.options: dict[str, Any] = {}
        self.separator = "\n"
        self._render, self._placeholders = render, placeholders
        first, second = "probeword0x", "probeword1x"
        self._takes_text = first in self._render_user(first)
        parts = [{"type": "text", "text": word} for word in (first, second)]
        between, _, after = self._render_user(parts).partition(first)[2].partition(second)
        # A template for text alone may print parts as Python writes them.
        self.takes_parts = bool(after) and "type" not in between
        self.can_render = lru_cache(maxsize=256)(self._can_render)

    @property
    def is_usable(self) -> bool:
        """Whether it renders a word of a user at all."""
        return self._takes_text or self.takes_parts

    def _render_user(self, content: object) -> str:
        # A template may write text in capitals.
        return (self._try([{"role": "user", "content": content}], {}) or "").lower()

    def _can_render(self, shape: Shape) -> bool:
        trial = probe(shape)
        conversation, options = self.adapted(trial.messages), {"tools": trial.tools}
        prompt = self._try(conversation, options)
        if prompt is None:
            return False
        for modality, placeholder in self._placeholders.items():
            if prompt.count(placeholder) != trial.expected.count(modality):
                return False
        words = [self._placeholders.get(word, word) for word in trial.expected]
        if shape.uses_tools:
            if any(word not in prompt for word in trial.anywhere) or not _in_order(words, prompt):
                return False
        # How text is written, and where media are beside it, is the template's own choice, and so
        # is whether it heeds the system.
        elif not all(
            word.lower() in prompt.lower() for word in words if word not in trial.instructions
        ):
            return False
        return not shape.media_ids or (
            self._try(conversation, {**options, "add_vision_id": True}) != prompt
        )

    def _try(self, conversation: Sequence[Message], options: Mapping[str, Any]) -> str | None:
        try:
            return self._render(self.text, conversation, {**options, **self.options})
        except Exception:  # of any kind: a template may raise what it likes
            return None

    def adapted(self, conversation: Sequence[Message]) -> list[dict[str, Any]]:
        """A copy of ``conversation`` in which text is what this template takes: text, or parts."""
        adapted = [dict(message) for message in conversation]
        for message in adapted:
            content = message.get("content")
            if isinstance(content, str):
                if not self._takes_text:
                    message["content"] = [{"type": "text", "text": content}]
            elif (
                isinstance(content, list)
                and self._takes_text
                and all(part.get("type") == "text" for part in content)
                and (len(content) <= 1 or not self.takes_parts)
            ):
                texts = (part["text"] for part in content)
                message["content"] = self.separator.join(filter(None, texts))
        return adapted


def _in_order(words: Iterable[str], prompt: str) -> bool:
    place = 0
    for word in words:
        place = prompt.find(word, place)
        if place < 0:
            return False
        place += len(word)
    return True


class ChatTemplates:
    """The templates of a server, and the choice among them.

    Args:
        own: templates in the order in which they are tried.
        for_tools: the same where functions are offered or were called.
        whole: renders what none of the others can; without one, the first has to say so itself.
    """

    def __init__(
        self, own: Iterable[Template], for_tools: Iterable[Template], whole: Template | None = None
    ) -> None:
        self.own = [template for template in own if template.is_usable or whole is None]
        self._for_tools = [template for template in for_tools if template.is_usable]
        self._whole = whole
        assert self.own or whole, "a template is needed"

    def choose(self, shape: Shape) -> Template:
        """The template for conversations of this shape."""
        if self.own and (shape.is_plain or self._whole is None):
            return self.own[0]
        templates = self._for_tools if shape.uses_tools else self.own
        able = (template for template in templates if template.can_render(shape))
        return next(able, None) or self._whole or self.own[0]

    def lacking(self) -> list[str]:
        """Features that none of the own templates has."""
        chosen = {name: (self.choose(shape), shape) for name, shape in FEATURES.items()}
        return [
            name
            for name, (template, shape) in chosen.items()
            if template is self._whole or not template.can_render(shape)
        ]

    def report(self) -> str:
        """One line for people: which templates are in use, and what for."""
        if not self.own:
            return "the checkpoint has no chat template; Saccade's is used"
        sources = " and ".join(dict.fromkeys(template.source for template in self.own))
        lacking = ", ".join(self.lacking())
        if not lacking:
            return f"{sources}: complete"
        if self._whole is None:
            return f"{sources}: lacks {lacking}"
        return f"{sources}, and Saccade's for {lacking}"

"""Conversations whose answers can only be copied: names and values that stand in the prompt.

Little else teaches a small model to look words up, which keys of JSON and names of tools need.
"""

import json
from collections.abc import Callable

import numpy as np

from saccade.demo.conversations import tools, wording
from saccade.demo.conversations.conversation import Conversation, Medium, Said

_REPEAT = ("Repeat: {}", "Say this again: {}", "{}\nRepeat it.", "Copy this: {}")
_LEAST_WORDS, _MOST_WORDS, _MOST_FIELDS = 10, 40, 4
_EACH = {"repeats": 16, "keys": 24, "calls": 24}  # conversations of a step
COPIES: tuple[str, ...] = ("repeats", "keys", "repeats", "keys", "calls")
"""Kinds of such steps, one after another, while most steps are."""
LATER_COPIES: tuple[str, ...] = ("keys", "calls", "keys", "repeats", "keys")
LAST_COPIES: tuple[str, ...] = ("keys", "calls")
"""Those among others."""


def copying(rng: np.random.Generator, kind: str, medium: Medium) -> list[Conversation]:
    """The conversations of one step; the first has the medium, of which nothing is asked."""
    begun = Conversation()
    if kind == "calls":  # the same tool for all: its description is long, and there but once
        width, height = (int(side) for side in rng.integers(100, 2000, 2))
        begun.tools = [tools.computer(rng, width, height, False)]
    make: Callable[..., None] = {"repeats": _repeat, "keys": _keys, "calls": _call}[kind]
    conversations = []
    for number in range(_EACH[kind]):
        conversation = begun.copy()
        make(rng, conversation, [] if number else [medium])
        conversations.append(conversation)
    return conversations


def _repeat(rng: np.random.Generator, conversation: Conversation, shown: list[Medium]) -> None:
    count = int(rng.integers(_LEAST_WORDS, _MOST_WORDS + 1))
    text = " ".join(wording.any_word(rng) for _ in range(count))
    conversation.user(*shown, wording.one_of(rng, _REPEAT).format(text))
    conversation.answer(Said(text))


def _keys(rng: np.random.Generator, conversation: Conversation, shown: list[Medium]) -> None:
    count = int(rng.integers(1, _MOST_FIELDS + 1))
    fields = {wording.any_word(rng): _value(rng) for _ in range(count)}
    named = [f'"{key}", {value}' for key, value in fields.items()]
    if len(named) == 1:
        ((key, value),) = fields.items()
        asked = f"Say {value}.{wording.asks_for_json(rng, key)}"
    else:
        asked = f"Answer in JSON with {', '.join(named[:-1])}, and {named[-1]}."
    conversation.user(*shown, asked)
    conversation.answer(Said(json.dumps(fields)))


def _value(rng: np.random.Generator) -> str | int:
    return wording.any_word(rng) if rng.random() < 0.7 else int(rng.integers(100))


def _call(rng: np.random.Generator, conversation: Conversation, shown: list[Medium]) -> None:
    (tool,) = conversation.tools
    x, y = (int(place) for place in rng.integers(0, 256, 2))
    order, call = tools.click_at(rng, tool, f"point {x}, {y}", (x, y))
    conversation.user(*shown, order)
    conversation.call(call, Said(tools.written(call), task="call"))

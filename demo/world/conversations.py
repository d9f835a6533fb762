"""Conversations about images and videos: whichever way round, about several, in several turns.

Messages are those of OpenAI's API, but that a medium is only ``{"type": "image"}`` or
``{"type": "video"}``: which one it is, its place among the conversation's media tells.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from saccade.demo.world import tools, wording
from saccade.demo.world.clips import Clip
from saccade.demo.world.examples import Example
from saccade.demo.world.facts import NONE, Fact
from saccade.demo.world.questions import Seen
from saccade.demo.world.scenes import Box

FORMS = ("word", "sentence", "json", "fields", "given")
"""Of answers: plain, one sentence, JSON by instruction with one or more fields, JSON that only a
grammar asks for."""
_FORM_SHARES = (0.6, 0.1, 0.1, 0.06, 0.14)
ORDERS = ("first", "last", "between", "labelled")
"""Where media stand: before the question, after it, between other text and it, or after a name."""
_ORDER_SHARES = (0.3, 0.4, 0.2, 0.1)
_STYLES: tuple[dict[str, Any], ...] = (
    {},
    {"separators": (",", ":")},
    {"separators": (",", ":")},
    {"indent": 2},
    {"indent": 4},
)
_ABOUT_IT = {"boxes": ("Where is it?", "Locate it.")}


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
        learned: whether it is to be learned; else it is only there.
        given: spans of characters that are not learned: a grammar leaves no choice.
        spots: as a question's, of ``text``.
        moments: phrases of the message before, and the second that each names.
        task: what was asked.
    """

    text: str
    learned: bool = True
    given: tuple[tuple[int, int], ...] = ()
    spots: tuple[tuple[int, Box], ...] = ()
    moments: tuple[tuple[str, int], ...] = ()
    task: str = ""


@dataclass
class Conversation:
    """Messages in turn, the last one the model's; ``said`` are those of the model."""

    media: list[Medium] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)

    def copy(self) -> "Conversation":
        return Conversation(*(list(part) for part in vars(self).values()))

    def system(self, text: str | None) -> None:
        if text is not None:
            self.messages.append({"role": "system", "content": text})

    def user(self, *parts: "str | Medium", role: str = "user", **fields: Any) -> None:
        content = []
        for part in parts:
            if isinstance(part, Medium):
                self.media.append(part)
                content.append({"type": part.kind})
            elif part:
                content.append({"type": "text", "text": part})
        self.messages.append({"role": role, "content": content, **fields})

    def answer(self, said: Said) -> None:
        self.messages.append({"role": "assistant", "content": said.text})
        self.said.append(said)

    def call(self, call: dict[str, Any], said: Said) -> None:
        self.messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        self.said.append(said)


def begun(rng: np.random.Generator) -> Conversation:
    """A conversation with a system prompt, if any."""
    conversation = Conversation()
    conversation.system(wording.system_prompt(rng))
    return conversation


def arranged(
    rng: np.random.Generator, media: Sequence[Medium], text: str, order: str | None = None
) -> list[str | Medium]:
    """The parts of a message: media and the question about them."""
    order = order or str(rng.choice(ORDERS, p=_ORDER_SHARES))
    gap = ("", "", "\n", " ")[rng.integers(4)]
    if order == "last":
        return [text + gap, *media]
    if order == "between":
        return [wording.before(rng) + gap, *media, text]
    if order == "labelled":
        parts: list[str | Medium] = []
        counts = {"image": 0, "video": 0}
        for medium in media:
            counts[medium.kind] += 1
            name = f"{medium.kind.capitalize()} {counts[medium.kind]}:"
            parts += [f"{gap if parts else ''}{name}{gap}", medium]
        return [*parts, text]
    return [*media, text]


def asked(
    rng: np.random.Generator, facts: Sequence[Fact], where: str = "", form: str | None = None
) -> tuple[str, Said]:
    """A question about the first fact (or more of them, in JSON) and its answer."""
    form = form or str(rng.choice(FORMS, p=_FORM_SHARES))
    fact = facts[0]
    question = wording.spelt(rng, _placed(rng, fact, where))
    if fact.moments and any(phrase not in question for phrase, _ in fact.moments):
        question = _placed(rng, fact, where)  # with the phrases as they are
    if form == "sentence" and fact.task not in ("caption", "boxes", "points"):
        said = Said(fact.sentence, moments=fact.moments, task=fact.task)
        return question + wording.asks_for_a_sentence(rng), said
    if form in ("json", "given") and fact.keys:
        key = fact.keys[rng.integers(len(fact.keys))]
        said = _in_json([(key, fact)], {}) if form == "json" else _under_grammar(rng, [(key, fact)])
        return question + (wording.asks_for_json(rng, key) if form == "json" else ""), said
    if form == "fields" and (several := _fields(rng, facts)):
        named = [f'"{key}", {fact.noun}{where}' for key, fact in several]
        joined = ", and ".join([", ".join(named[:-1]), named[-1]] if named[:-1] else named)
        return f"Answer in JSON with {joined}.", _in_json(several, {})
    if rng.random() < 0.15:
        question += wording.asks_for_a_word(rng)
    said = Said(fact.answer, spots=fact.spots, moments=fact.moments, task=fact.task)
    return question + wording.after(rng), said


def _placed(rng: np.random.Generator, fact: Fact, where: str) -> str:
    if fact.task == "caption" and where:
        return f"Describe{where.removeprefix(' in')}."
    question = fact.questions[rng.integers(len(fact.questions))]
    if where and rng.random() < 0.2:  # the place first
        plain = question.replace("{where}", "")
        return f"{where[1].upper()}{where[2:]}, {plain[0].lower()}{plain[1:]}"
    return question.replace("{where}", where)


def _fields(rng: np.random.Generator, facts: Sequence[Fact]) -> list[tuple[str, Fact]]:
    chosen: dict[str, Fact] = {}
    for fact in facts:
        if fact.noun and fact.noun not in {other.noun for other in chosen.values()}:
            key = next((key for key in fact.keys if key not in chosen), None)
            if key is not None:
                chosen[key] = fact
        if len(chosen) == 3:
            break
    several = list(chosen.items())
    return several[: int(rng.integers(2, 4))] if len(several) > 1 else []


def _in_json(fields: Sequence[tuple[str, Fact]], style: dict[str, Any]) -> Said:
    text = json.dumps({key: fact.value for key, fact in fields}, **style)
    spots: list[tuple[int, Box]] = []
    for _, fact in fields:
        if isinstance(fact.value, str):
            start = text.index(json.dumps(fact.value)) + 1
            spots += [(start + end, box) for end, box in fact.spots]
    one = fields[0][1] if len(fields) == 1 else None
    return Said(
        text, spots=tuple(spots), moments=one.moments if one else (), task=one.task if one else ""
    )


def _under_grammar(rng: np.random.Generator, fields: Sequence[tuple[str, Fact]]) -> Said:
    """JSON in a style that the prompt says nothing of, alone or as the arguments of a call."""
    style = _STYLES[rng.integers(len(_STYLES))]
    said = _in_json(fields, style)
    before, after = "", ""
    if rng.random() < 0.15:  # as vLLM has calls written that a request requires
        comma, colon = style.get("separators", (", ", ": "))
        name = ("seen", "answer", "report", "tell")[rng.integers(4)]
        before = f'[{{"name"{colon}"{name}"{comma}"parameters"{colon}'
        after = "}]"
    given, at = [], 0
    for _, fact in fields:
        value = json.dumps(fact.value)
        start = said.text.index(value, at) + isinstance(fact.value, str)
        given.append((at, start))
        at = said.text.index(value, at) + len(value)
    shift = len(before)
    return Said(
        before + said.text + after,
        given=((0, shift + given[0][1]), *((a + shift, b + shift) for a, b in given[1:])),
        spots=tuple((end + shift, box) for end, box in said.spots),
        moments=said.moments,
        task=said.task,
    )


def about_one(
    rng: np.random.Generator,
    medium: Medium,
    order: str | None = None,
    form: str | None = None,
    turns: int | None = None,
    conversation: Conversation | None = None,
) -> Conversation:
    """Up to three questions about one image or video; None: at random.

    Args:
        conversation: what to go on with.
    """
    conversation = conversation or begun(rng)
    if turns is None:
        turns = int(rng.choice((1, 2, 3), p=(0.55, 0.33, 0.12)))
    facts = medium.facts
    former: Fact | None = None
    for turn in range(min(turns, len(facts))):
        where = wording.where_among(rng, medium.kind, 0, 1) if rng.random() < 0.25 else ""
        if facts[turn].task == "caption":
            where = ""
        question, said = asked(rng, facts[turn:], where, form)
        fact = facts[turn]
        if former is not None and rng.random() < 0.5 and form is None:
            short, other = _followed(rng, former, facts)
            if other is not None:
                fact, question = other, short
                said = Said(fact.answer, spots=fact.spots, moments=fact.moments, task=fact.task)
        if turn == 0:
            conversation.user(*arranged(rng, [medium], question, order))
        else:
            conversation.user(question)
        conversation.answer(said)
        former = fact
    return conversation


def _followed(
    rng: np.random.Generator, former: Fact, facts: Sequence[Fact]
) -> tuple[str, Fact | None]:
    """A question that only the one before explains."""
    if former.task == "colour_kind" and former.value != NONE:
        names = {f"{former.value} {former.subject}", f"{former.subject} {former.value}"}
        found = [fact for fact in facts if fact.task == "boxes" and fact.subject in names]
        if found and rng.random() < 0.5:
            short = _ABOUT_IT["boxes"]
            return short[rng.integers(len(short))], found[0]
    alike = [
        fact
        for fact in facts
        if fact.task == former.task and fact.again and fact.subject != former.subject
    ]
    if not alike:
        return "", None
    fact = alike[rng.integers(len(alike))]
    return ("And {}?", "What about {}?")[rng.integers(2)].format(fact.again), fact


def about_several(
    rng: np.random.Generator,
    media: Sequence[Medium],
    order: str | None = None,
    form: str | None = None,
    turns: int | None = None,
) -> Conversation:
    """Questions about one or another of several media, in one message or over some."""
    conversation = begun(rng)
    if turns is None:
        turns = int(rng.choice((1, 2, 3), p=(0.55, 0.3, 0.15)))
    shown = len(media)
    if order is None and turns > 1 and rng.random() < 0.4:  # the others come later
        shown = int(rng.integers(1, len(media)))
    pools = [list(medium.facts) for medium in media]
    new = list(media[:shown])
    for turn in range(turns):
        if turn and shown < len(media):
            new, shown = [media[shown]], shown + 1
        index = shown - 1 if turn and new and rng.random() < 0.6 else int(rng.integers(shown))
        if not pools[index]:
            continue
        kind = media[index].kind
        alike = [number for number in range(shown) if media[number].kind == kind]
        where = wording.where_among(rng, kind, alike.index(index), len(alike))
        if new and turn and index == shown - 1 and rng.random() < 0.4:
            where = f" in this {kind}"
        elif _only_there(media[:shown], index, pools[index][0]) and rng.random() < 0.25:
            where = ""
        question, said = asked(rng, pools[index], where, form)
        pools[index].pop(0)
        conversation.user(*arranged(rng, new, question, order))
        conversation.answer(said)
        new = []
    return conversation


def _only_there(media: Sequence[Medium], index: int, fact: Fact) -> bool:
    """Whether what is asked for is in one of the media alone."""
    if fact.task != "colour_kind" or fact.value == NONE:
        return False
    return not any(
        fact.subject in (thing.kind, thing.colour)
        for number, medium in enumerate(media)
        if number != index
        for thing in medium.things
    )


def offered(rng: np.random.Generator, screen: Medium) -> Conversation:
    """A conversation in which there are a tool to click with and perhaps another."""
    conversation = begun(rng)
    _, height, width, _ = screen.example.raster.shape
    conversation.tools = [tools.computer(rng, width, height)]
    if rng.random() < 0.4:
        conversation.tools.insert(int(rng.integers(2)), tools.other(rng))
    return conversation


def about_screens(
    rng: np.random.Generator,
    screens: Sequence[Medium],
    conversation: Conversation,
    order: str | None = None,
) -> Conversation:
    """Orders to click on things of screens, one after another, obeyed by calls.

    Args:
        conversation: has the tool.
    """
    tool = next(tool for tool in conversation.tools if tools.clicks(tool))
    for number, screen in enumerate(screens):
        labels = [thing.label for thing in screen.things]
        things = [thing for thing in screen.things if labels.count(thing.label) == 1]
        if not things:
            break
        thing = things[rng.integers(len(things))]
        order_text, call = tools.click(rng, tool, thing)
        if number:  # the result of the call before is a new screen
            name = conversation.messages[-1]["tool_calls"][0]["id"]
            conversation.user(screen, role="tool", tool_call_id=name)
            conversation.user(order_text)
        else:
            conversation.user(*arranged(rng, [screen], order_text, order))
        function = call["function"]
        text = (
            f'<tool_call>\n{{"name": "{function["name"]}", "arguments": '
            f"{json.dumps(function['arguments'])}}}\n</tool_call>"
        )
        conversation.call(call, Said(text, spots=((len(text), thing.box),), task="call"))
    if conversation.said and rng.random() < 0.3 and screen.facts:  # a question about the last one
        name = conversation.messages[-1]["tool_calls"][0]["id"]
        conversation.user("Done.", role="tool", tool_call_id=name)
        question, said = asked(rng, screen.facts, "", "word")
        conversation.user(question)
        conversation.answer(said)
    return conversation

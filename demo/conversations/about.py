"""Conversations about one medium or several, whichever way round and in several turns."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from saccade.demo.conversations import tools, wording
from saccade.demo.conversations.asking import asked
from saccade.demo.conversations.conversation import Conversation, Medium, Said
from saccade.demo.conversations.facts import NONE, Fact

ORDERS = ("first", "last", "between", "labelled")
"""Where media stand: before the question, after it, between other text and it, or after a name."""
_ORDER_SHARES = (0.3, 0.4, 0.2, 0.1)
_ABOUT_IT = ("Where is it?", "Locate it.")


def begun(rng: np.random.Generator) -> Conversation:
    """A conversation with a system prompt, if any; in some, others have talked before."""
    conversation = Conversation()
    conversation.system(wording.system_prompt(rng))
    if rng.random() < 0.06:
        _small_talk(rng, conversation)
    return conversation


def _small_talk(rng: np.random.Generator, conversation: Conversation) -> None:
    """A message, an answer or a call that is not learned, and perhaps its result."""
    conversation.user(wording.chatter(rng, int(rng.integers(1, 12))))
    if rng.random() < 0.5:
        said = wording.chatter(rng, int(rng.integers(1, 12)))
        conversation.answer(Said(said, given=((0, len(said)),)))
        return
    call = tools.call("look", {})
    said = tools.written(call)
    conversation.call(call, Said(said, given=((0, len(said)),)))
    conversation.user("See below.", role="tool", tool_call_id=call["id"])
    if rng.random() < 0.5:
        conversation.system("Be brief.")


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
            return wording.one_of(rng, _ABOUT_IT), found[0]
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
        number = alike.index(index) if len(alike) > 1 else None
        if new and turn and index == shown - 1 and rng.random() < 0.4:
            where = f" in this {kind}"
        elif _only_there(media[:shown], index, pools[index][0]) and rng.random() < 0.25:
            where, number = "", None
        question, said = asked(rng, pools[index], where, form)
        pools[index].pop(0)
        conversation.user(*arranged(rng, new, question, order))
        conversation.answer(replace(said, number=number))
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
        text = tools.written(call)
        conversation.call(call, Said(text, spots=((len(text), thing.box),), task="call"))
    last = conversation.said[-1].task if conversation.said else ""
    # A question about the last one; where others have talked before, there may be none.
    if conversation.said and rng.random() < 0.3 and screen.facts and last == "call":
        name = conversation.messages[-1]["tool_calls"][0]["id"]
        conversation.user("Done.", role="tool", tool_call_id=name)
        question, said = asked(rng, screen.facts, "", "word")
        conversation.user(question)
        conversation.answer(said)
    return conversation

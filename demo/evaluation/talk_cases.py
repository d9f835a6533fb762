"""Held-out conversations for every figure of whichever way round a question is asked."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from saccade.demo.conversations.about import (
    about_one,
    about_screens,
    about_several,
    offered,
)
from saccade.demo.conversations.conversation import Conversation, Medium
from saccade.demo.conversations.draw import page, picture, short_clip
from saccade.demo.conversations.facts import Fact, clip_facts
from saccade.demo.conversations.pages import right_words
from saccade.demo.evaluation.cases import Case
from saccade.demo.world.answers import boxes_agree, seconds_of
from saccade.demo.world.examples import MOST_CELLS, long_clip_example, picture_sizes
from saccade.demo.world.scenes import Box

BOTH_ORDERS = ("colour_kind", "counting", "reading", "boxes")
_TASKS = (*BOTH_ORDERS, "points", "event_time", "order")
"""What several images, videos and second turns are asked for: no captions, which are many answers
in one."""
MOST_BEHIND = 0.02
"""How much less a task may score with the text first."""
TALK_FIGURES = (
    *(f"{task}_{order}" for task in BOTH_ORDERS for order in ("image_first", "text_first")),
    *("two_images", "three_images", "second_turn", "json", "grammar", "call"),
    *("ten_minutes", "page_words"),
)
"""What the evaluation reports of conversations."""
_FIRST_SEED = 2**33  # above all others
_WITHIN = 2  # seconds
_CALL = re.compile(r"<tool_call>\s*(\{.*\})\s*</tool_call>", re.DOTALL)


def talk_cases(figure: str, seed: int, count: int) -> list[Case]:
    """``count`` cases of a figure; a pure function of its arguments."""
    order = "last" if figure.endswith("_text_first") else "first"
    name = figure.removesuffix("_text_first").removesuffix("_image_first")
    rng = np.random.default_rng([_FIRST_SEED + seed, *name.encode()])  # the same in both orders
    made = _one_task(rng, name, order) if name in BOTH_ORDERS else _MAKERS[name](rng)
    return [as_case(figure, next(made)) for _ in range(count)]


def as_case(figure: str, conversation: Conversation) -> Case:
    """The conversation's last answer as a case of this figure."""
    expected = conversation.said[-1].text
    task = conversation.said[-1].task

    def score(answer: str) -> float:
        if figure == "page_words":
            right, count = right_words(answer, expected)
            return right / count
        if figure == "ten_minutes":
            return float(_seconds_apart(answer, expected) <= _WITHIN)
        if figure == "call":
            box = conversation.said[-1].spots[0][1]
            return float(_obeys(answer, expected, box))
        if figure in ("json", "grammar"):
            return float(_same_json(answer, expected))
        if task == "points":
            return float(_points_into(answer, expected, conversation.said[-1].spots[0][1]))
        if task == "boxes" and expected != "[]":
            return float(boxes_agree(answer, expected))
        return float(answer.strip() == expected)

    return Case(figure, conversation, score)


def _same_json(answer: str, expected: str) -> bool:
    try:
        return bool(json.loads(answer) == json.loads(expected))
    except ValueError:
        return False


def _seconds_apart(answer: str, expected: str) -> float:
    if not re.fullmatch(r"\d\d:\d\d", answer.strip()):
        return float("inf")
    return abs(seconds_of(answer.strip()) - seconds_of(expected))


def _obeys(answer: str, expected: str, box: Box) -> bool:
    """Whether it is the call that was expected, with a place within the box."""
    calls = [_CALL.search(text) for text in (answer, expected)]
    if calls[0] is None or calls[1] is None:
        return False
    try:
        said, right = (json.loads(call[1]) for call in calls if call)
        x, y = said["arguments"].pop("coordinate")
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    right["arguments"].pop("coordinate")
    return bool(said == right and box[0] <= x <= box[2] and box[1] <= y <= box[3])


def _points_into(answer: str, expected: str, box: Box) -> bool:
    """Whether it is one point within the box, named as is expected."""
    try:
        ((said,), (right,)) = (json.loads(text) for text in (answer, expected))
        x, y = said.pop("point_2d")
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    right.pop("point_2d")
    return bool(said == right and box[0] <= x <= box[2] and box[1] <= y <= box[3])


def _any_picture(rng: np.random.Generator, most: int = MOST_CELLS) -> Medium:
    sizes = picture_sizes(most)
    return picture(rng, sizes[rng.integers(len(sizes))], worn=False)


def _about(medium: Medium, facts: list[Fact]) -> Medium:
    return replace(medium, facts=facts)


def _single(facts: list[Fact]) -> list[Fact]:
    return [fact for fact in facts if fact.task in _TASKS]


def _one_task(rng: np.random.Generator, task: str, order: str) -> Iterator[Conversation]:
    while True:
        medium = _any_picture(rng)
        facts = [fact for fact in medium.facts if fact.task == task]
        # What follows draws as much in both orders.
        talk = np.random.default_rng(rng.integers(2**32))
        if facts:
            yield about_one(talk, _about(medium, facts), order, "word", 1)


def _several(count: int) -> Callable[[np.random.Generator], Iterator[Conversation]]:
    def make(rng: np.random.Generator) -> Iterator[Conversation]:
        while True:
            media = [_any_picture(rng, 20) for _ in range(count)]
            if count == 3 and rng.random() < 0.3:
                media[rng.integers(3)] = short_clip(rng, 12, 6, 2.0, worn=False)
            media = [_about(medium, _single(medium.facts)) for medium in media]
            if all(medium.facts for medium in media):
                yield about_several(rng, media, form="word", turns=1)

    return make


def _second_turns(rng: np.random.Generator) -> Iterator[Conversation]:
    while True:
        medium = _any_picture(rng)
        facts = _single(medium.facts)
        if len(facts) > 1:
            conversation = about_one(rng, _about(medium, facts), turns=2)
            if not conversation.said[-1].given:  # by a grammar, of which the prompt says nothing
                yield conversation


def _json(rng: np.random.Generator) -> Iterator[Conversation]:
    while True:
        medium = _any_picture(rng)
        tasks = ("colour_kind", "counting", "reading")
        facts = [fact for fact in medium.facts if fact.task in tasks]
        if len(facts) > 1:
            form = ("json", "json", "fields")[rng.integers(3)]
            yield about_one(rng, _about(medium, facts), form=form, turns=1)


def _grammar(rng: np.random.Generator) -> Iterator[Conversation]:
    while True:
        medium = _any_picture(rng)
        facts = [fact for fact in medium.facts if fact.task in ("colour_kind", "counting")]
        if facts:
            conversation = about_one(rng, _about(medium, facts), form="given", turns=1)
            if conversation.said[-1].text.startswith("{"):  # not a call
                yield conversation


def _calls(rng: np.random.Generator) -> Iterator[Conversation]:
    while True:
        screen = _any_picture(rng)
        conversation = about_screens(rng, [screen], offered(rng, screen))
        if conversation.said and conversation.said[-1].task == "call":
            yield conversation


def _ten_minutes(rng: np.random.Generator) -> Iterator[Conversation]:
    while True:
        clip, example = long_clip_example(rng, (3, 3), 600, 0.5, seen=False)
        facts = [fact for fact in clip_facts(rng, clip) if fact.task == "event_time"]
        facts = [fact for fact in facts if fact.moments]
        yield about_one(rng, Medium("video", example, facts, [], clip, 0.5), form="word", turns=1)


def _pages(rng: np.random.Generator) -> Iterator[Conversation]:
    sizes = [size for size in picture_sizes(MOST_CELLS) if size[0] * size[1] >= 16]
    while True:
        medium = page(rng, sizes[rng.integers(len(sizes))])
        yield about_one(rng, medium, form="word", turns=1)


_MAKERS: dict[str, Callable[[np.random.Generator], Iterator[Conversation]]] = {
    "two_images": _several(2),
    "three_images": _several(3),
    "second_turn": _second_turns,
    "json": _json,
    "grammar": _grammar,
    "call": _calls,
    "ten_minutes": _ten_minutes,
    "page_words": _pages,
}

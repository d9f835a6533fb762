"""One question about facts, and its answer in the form that was asked for."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from saccade.demo.conversations import wording
from saccade.demo.conversations.conversation import Said
from saccade.demo.conversations.facts import Fact
from saccade.demo.world.scenes import Box

FORMS = ("word", "sentence", "json", "fields", "given")
"""Of answers: plain, one sentence, JSON by instruction with one or more fields, JSON that only a
grammar asks for."""
_FORM_SHARES = (0.6, 0.1, 0.1, 0.06, 0.14)
_STYLES: tuple[dict[str, Any], ...] = (
    {},
    {"separators": (",", ":")},
    {"separators": (",", ":")},
    {"indent": 2},
    {"indent": 4},
)


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

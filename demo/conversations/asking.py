"""One question about facts, and its answer in the form that was asked for."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from saccade.demo.conversations import wording
from saccade.demo.conversations.conversation import Said
from saccade.demo.conversations.facts import Fact
from saccade.demo.world.scenes import COLOURS, KINDS, Box

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
        key = _key(rng, fact)
        said = _in_json([(key, fact)], {}) if form == "json" else _under_grammar(rng, key, fact)
        return question + (wording.asks_for_json(rng, key) if form == "json" else ""), said
    if form == "fields" and (several := _fields(rng, facts)):
        named = [f'"{key}", {fact.noun}{where}' for key, fact in several]
        joined = ", and ".join([", ".join(named[:-1]), named[-1]] if named[:-1] else named)
        return f"Answer in JSON with {joined}.", _in_json(several, {})
    kind = rng.random()
    if kind < 0.15:
        question += wording.asks_for_a_word(rng)
    elif kind < 0.25:
        question += _choices(rng, fact)
    said = Said(fact.answer, spots=fact.spots, moments=fact.moments, task=fact.task)
    return question + wording.after(rng), said


def _key(rng: np.random.Generator, fact: Fact) -> str:
    """A name for it in JSON: one that says what it is, or any word."""
    if rng.random() < 0.3:
        return wording.any_word(rng)
    return fact.keys[rng.integers(len(fact.keys))]


def _choices(rng: np.random.Generator, fact: Fact) -> str:
    """An instruction to choose from some, if it is a colour or a shape that is there."""
    every = next((names for names in (list(COLOURS), list(KINDS)) if fact.value in names), None)
    if every is None:
        return ""
    others = [name for name in every if name != fact.value]
    chosen = [fact.answer, *rng.permutation(others)[: int(rng.integers(1, len(others) + 1))]]
    return wording.asks_to_choose(rng, [str(chosen[at]) for at in rng.permutation(len(chosen))])


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
            chosen.setdefault(_key(rng, fact), fact)
        if len(chosen) == 3:
            break
    several = list(chosen.items())
    return several[: int(rng.integers(2, 4))] if len(several) > 1 else []


def _in_json(fields: Sequence[tuple[str, Fact]], style: dict[str, Any]) -> Said:
    text = json.dumps({key: fact.value for key, fact in fields}, **style)
    spots: list[tuple[int, Box]] = []
    at = 0
    for key, fact in fields:
        at = text.index(json.dumps(fact.value), text.index(f'"{key}"', at) + len(key) + 2)
        if isinstance(fact.value, str):
            spots += [(at + 1 + end, box) for end, box in fact.spots]
    one = fields[0][1] if len(fields) == 1 else None
    return Said(
        text, spots=tuple(spots), moments=one.moments if one else (), task=one.task if one else ""
    )


def _under_grammar(rng: np.random.Generator, key: str, fact: Fact) -> Said:
    """JSON in a style that the prompt says nothing of, alone or as the arguments of a call."""
    style = _STYLES[rng.integers(len(_STYLES))]
    said = _in_json([(key, fact)], style)
    before, after = "", ""
    if rng.random() < 0.15:  # as vLLM has calls written that a request requires
        comma, colon = style.get("separators", (", ", ": "))
        name = ("seen", "answer", "report", "tell")[rng.integers(4)]
        before = f'[{{"name"{colon}"{name}"{comma}"parameters"{colon}'
        after = "}]"
    shift = len(before)
    named = said.text.index(f'"{key}"') + len(key) + 1
    begins = said.text.index(json.dumps(fact.value), named + 1) + isinstance(fact.value, str)
    return Said(
        before + said.text + after,
        given=((0, shift + named),),
        punctuation=((shift + named, shift + begins),),
        spots=tuple((end + shift, box) for end, box in said.spots),
        moments=said.moments,
        task=said.task,
    )

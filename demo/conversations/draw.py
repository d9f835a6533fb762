"""Conversations that the model learns from, a pure function of seed and step."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from saccade.demo.conversations.about import (
    about_one,
    about_screens,
    about_several,
    offered,
)
from saccade.demo.conversations.conversation import Conversation, Medium
from saccade.demo.conversations.copying import COPIES, LAST_COPIES, LATER_COPIES, copying
from saccade.demo.conversations.facts import clip_facts, picture_facts
from saccade.demo.conversations.pages import page_fact, word_count
from saccade.demo.world.examples import (
    MOST_CELLS,
    TRAINING_RATES,
    clip_example,
    long_clip_example,
    page_example,
    picture_example,
    picture_sizes,
    random_clip,
)

CYCLE: tuple[str, ...] = (
    *("questions", "one", "several", "screens", "clip questions", "one", "pages", "several"),
    *("long", "questions", "one", "several", "clips", "clip questions", "one", "screens", "many"),
    *("pages", "several", "long"),
)
"""Kinds of steps, one after another; of "questions" and "clip questions" see `training.data`."""
COPIES_FROM, COPIES_UNTIL, REVIEW_FROM = 2100, 2600, 3100
"""Words to copy: four steps of five until the second of these, two of five until the third, then
one of five."""
REVIEW: tuple[str, ...] = (
    *("questions", "one", "clip questions", "several", "screens", "questions", "pages", "one"),
    *("clip questions", "many", "long", "questions", "one", "several", "clip questions", "clips"),
    *("screens", "one", "pages", "several"),
)
"""What the other steps are about then: more of what was known before conversations."""
SEVERAL_FROM = 5500
SEVERAL: tuple[str, ...] = (
    *("questions", "several", "clip questions", "one", "several", "screens", "questions", "long"),
    *("several", "clip questions", "one", "many", "several", "questions", "screens", "pages"),
    *("several", "one", "clip questions", "clips"),
)
"""And then: more of what has to be told from other images, whose numbers are learned from here."""
FORMS_FROM = 8200
FORMS: tuple[str, ...] = (
    *("forms", "several", "questions", "several", "clip questions", "forms", "several", "screens"),
    *("several", "one", "questions", "forms", "several", "clip questions", "several", "pages"),
    *("forms", "many", "questions", "several", "long", "clips"),
)
"""And at last: more JSON, of which the punctuation between keys and values is learned, too."""
LONG_RATES = {30: (1.0, 2.0), 60: (1.0,), 120: (0.5, 1.0), 300: (0.5,), 600: (0.5,)}
"""Frames a second of videos that last at most so many seconds."""
_CELLS = 240  # of the images of a step that conversations share
_EACH = 2  # conversations about an image or video


def kind_of(step: int) -> str:
    """What a step is about."""
    if step < COPIES_FROM:
        return CYCLE[step % len(CYCLE)]
    number, of_five = divmod(step, 5)
    if step < COPIES_UNTIL:
        copied, copies, others = 4, COPIES, CYCLE
    elif step < REVIEW_FROM:
        copied, copies, others = 2, LATER_COPIES, CYCLE
    else:
        copied, copies = 1, LAST_COPIES
        others = REVIEW if step < SEVERAL_FROM else SEVERAL if step < FORMS_FROM else FORMS
    if of_five < copied:
        return copies[(copied * number + of_five) % len(copies)]
    return others[((5 - copied) * number + of_five - copied) % len(others)]


def talk_conversations(seed: int, step: int) -> list[Conversation]:
    """The conversations of one step."""
    rng = np.random.default_rng([seed, step, 2])
    makers: dict[str, Callable[[np.random.Generator], list[Conversation]]] = {
        "one": _one,
        "forms": _forms,
        "several": _several,
        "many": _many,
        "pages": _pages,
        "screens": _screens,
        "clips": _clips,
        "long": _long,
    }
    kind = kind_of(step)
    if kind in COPIES:
        return copying(rng, kind, picture(rng, _size(rng, 9)))
    return makers[kind](rng)


def picture(
    rng: np.random.Generator, size: tuple[int, int], most_things: int = 5, worn: bool = True
) -> Medium:
    """An image and what can be asked of it."""
    with_text = bool(rng.random() < 0.5)
    things = int(rng.integers(0 if with_text else 1, most_things + 1))
    example = picture_example(rng, size, things, (), 0, with_text, worn)
    text = example.texts[0] if example.texts else None
    facts = picture_facts(rng, example.things, text)
    return Medium("image", example, facts, example.things)


def short_clip(
    rng: np.random.Generator, most_cells: int, most_seconds: int, fps: float, worn: bool = True
) -> Medium:
    """A video of some seconds and what can be asked of it."""
    seconds = 2 * int(rng.integers(2, most_seconds // 2 + 1))
    clip = random_clip(rng, most_cells, seconds, early=bool(worn and rng.random() < 0.5))
    example = clip_example(rng, clip, fps, (), 0, worn)
    return Medium("video", example, clip_facts(rng, clip), [], clip, fps)


def long_clip(rng: np.random.Generator, most_seconds: int) -> Medium:
    """A video of half a minute to so many seconds."""
    seconds = 2 * int(rng.integers(most_seconds // 4, most_seconds // 2 + 1))
    rates = LONG_RATES[min(most for most in LONG_RATES if most >= seconds)]
    fps = rates[rng.integers(len(rates))]
    clip, example = long_clip_example(rng, (3, 3 + int(rng.integers(2))), seconds, fps)
    facts = [fact for fact in clip_facts(rng, clip) if fact.task in ("event_time", "order")]
    return Medium("video", example, facts, [], clip, fps)


def page(rng: np.random.Generator, size: tuple[int, int]) -> Medium:
    """A page of printed words."""
    while True:
        example = page_example(rng, size, word_count(rng))
        if example.texts:
            return Medium("image", example, [page_fact(example.texts)])


def _size(rng: np.random.Generator, most: int, least: int = 0) -> tuple[int, int]:
    sizes = [size for size in picture_sizes(most) if size[0] * size[1] >= least]
    return sizes[rng.integers(len(sizes))]


def _pictures(rng: np.random.Generator, least: int = 0) -> list[Medium]:
    size = _size(rng, MOST_CELLS, least)
    count = min(12, max(4, _CELLS // (size[0] * size[1])))
    pictures = [picture(rng, size) for _ in range(count)]
    return [one for one in pictures if one.facts]


def _one(rng: np.random.Generator) -> list[Conversation]:
    return [about_one(rng, shuffled(rng, one)) for one in _pictures(rng) for _ in range(_EACH)]


def _forms(rng: np.random.Generator) -> list[Conversation]:
    forms = ("fields", "fields", "json", "given")
    return [
        about_one(rng, shuffled(rng, one), form=forms[rng.integers(len(forms))], turns=1)
        for one in _pictures(rng)
        for _ in range(_EACH)
    ]


def shuffled(rng: np.random.Generator, medium: Medium) -> Medium:
    """The same medium, asked about in another order."""
    order = rng.permutation(len(medium.facts))
    facts = [medium.facts[index] for index in order]
    return replace(medium, facts=facts)


def _several(rng: np.random.Generator) -> list[Conversation]:
    pool = [picture(rng, _size(rng, 16), 3) for _ in range(12)]
    if rng.random() < 0.5:
        fps = (1.0, 2.0)[rng.integers(2)]
        pool += [short_clip(rng, 12, 6, fps) for _ in range(4)]
    pool = [medium for medium in pool if medium.facts]
    return [about_several(rng, _chosen(rng, pool, int(rng.integers(2, 5)))) for _ in range(11)]


def _many(rng: np.random.Generator) -> list[Conversation]:
    pool = [picture(rng, _size(rng, 12), 2) for _ in range(24)]
    pool = [medium for medium in pool if medium.facts]
    return [about_several(rng, _chosen(rng, pool, int(rng.integers(5, 21)))) for _ in range(5)]


def _chosen(rng: np.random.Generator, pool: Sequence[Medium], count: int) -> list[Medium]:
    picked = rng.choice(len(pool), size=min(count, len(pool)), replace=False)
    return [shuffled(rng, pool[index]) for index in picked]


def _pages(rng: np.random.Generator) -> list[Conversation]:
    size = _size(rng, MOST_CELLS, 16)
    pages = [page(rng, size) for _ in range(10)]
    return [about_one(rng, one, form="word", turns=1) for one in pages]


def _screens(rng: np.random.Generator) -> list[Conversation]:
    pool = [one for one in _pictures(rng, 16) if one.things]
    if not pool:
        return _one(rng)
    begun = offered(rng, pool[0])  # the same for all: it is long, and there but once
    conversations = [
        about_one(rng, shuffled(rng, one), conversation=begun.copy()) for one in pool[:4]
    ]
    for _ in range(12):
        screens = _chosen(rng, pool, 1 + int(rng.random() < 0.35))
        conversations.append(about_screens(rng, screens, begun.copy()))
    return [one for one in conversations if one.said]


def _clips(rng: np.random.Generator) -> list[Conversation]:
    shares = 1 / np.array(TRAINING_RATES)
    fps = float(rng.choice(TRAINING_RATES, p=shares / shares.sum()))
    pool = [short_clip(rng, 20, 10, fps) for _ in range(4 if fps < 3 else 2)]
    return [about_one(rng, shuffled(rng, one)) for one in pool for _ in range(_EACH)]


def _long(rng: np.random.Generator) -> list[Conversation]:
    most = (60, 60, 120, 120, 300, 600)[rng.integers(6)]
    pool = [long_clip(rng, most) for _ in range({60: 6, 120: 4, 300: 2, 600: 1}[most])]
    return [about_one(rng, one, turns=3) for one in pool]

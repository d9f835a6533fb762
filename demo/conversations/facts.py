"""What can be asked of an image or a video, in several wordings, and how it is answered."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saccade.demo.world.answers import mm_ss
from saccade.demo.world.clips import ACTIONS, Clip, Event
from saccade.demo.world.questions import Seen, SeenText, grounding, plural
from saccade.demo.world.scenes import COLOURS, KINDS, Box

NONE = "none"
"""The answer about what is not there; for boxes it is an empty list."""
_ABSENT = 0.12  # of the questions are about what is not there


@dataclass(frozen=True)
class Fact:
    """One thing that can be asked.

    Attributes:
        task: one of `questions.TASKS`.
        subject: what it is about; another fact of the same task and subject has the same answer.
        questions: wordings; ``{where}`` is where a medium is named among several.
        value: of JSON.
        sentence: the answer as one sentence.
        keys: names that JSON may give to it.
        noun: what is asked for, as a field of JSON is explained.
        again: what is asked after a question of the same task.
        spots: where the answer is read off: up to which of its characters about which box.
        moments: phrases of the question, and the second that each of them names.
    """

    task: str
    subject: str
    questions: tuple[str, ...]
    value: object
    sentence: str
    keys: tuple[str, ...] = ("answer",)
    noun: str = ""
    again: str = ""
    spots: tuple[tuple[int, Box], ...] = ()
    moments: tuple[tuple[str, int], ...] = ()

    @property
    def answer(self) -> str:
        """The answer as a word, or as the JSON of boxes and points."""
        return self.value if isinstance(self.value, str) else json.dumps(self.value)


def an(label: str) -> str:
    """``a red circle``, ``an orange star``."""
    return f"an {label}" if label.startswith("orange") else f"a {label}"


def picture_facts(
    rng: np.random.Generator, things: Sequence[Seen], text: SeenText | None
) -> list[Fact]:
    """What can be asked of an image, in random order."""
    facts = [*_colours_and_kinds(things), *_counts(rng, things), *_boxes(things)]
    if text is not None:
        spots = tuple(enumerate(text.characters, 1))
        facts.append(_text(text.string, f'The text says "{text.string}".', spots))
    if things:
        facts.append(_caption(things))
    absent = _absent(rng, things, text)
    facts += [absent[rng.integers(len(absent))] for _ in range(rng.binomial(len(facts), _ABSENT))]
    return [facts[index] for index in rng.permutation(len(facts))]


def clip_facts(rng: np.random.Generator, clip: Clip) -> list[Fact]:
    """What can be asked of a video, in random order."""
    facts = [_time(event) for event in clip.events]
    facts += _orders(rng, clip.events)
    still = [Seen(thing.kind, thing.colour, thing.box) for thing in clip.scene.things]
    # Where a thing is in a video is not learned: questions about things without their boxes.
    facts += _colours_and_kinds(still, spots=False)
    told = [event.phrase for event in clip.events]
    joined = ", then ".join(told)
    asked = ("What happens in the video?", "Describe the video.", "What happens?")
    facts.append(Fact("caption", "", asked, _sentence(joined), _sentence(joined), ("events",)))
    if rng.random() < _ABSENT:
        facts.append(_absent_event(rng, clip))
    return [facts[index] for index in rng.permutation(len(facts))]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def colour_fact(kind: str, colour: str, spots: tuple[tuple[int, Box], ...] = ()) -> Fact:
    """Which colour the only thing of this kind is; `NONE`: there is none."""
    asked: tuple[str, ...] = (
        "What colour is the {0}{where}?",
        "Which colour is the {0}{where}?",
        "What color is the {0}{where}?",
        "Tell me the colour of the {0}{where}.",
    )
    said = f"There is no {kind}." if colour == NONE else f"The {kind} is {colour}."
    keys = ("colour", "color", "answer", f"{kind}_colour", "value")
    noun = f"the colour of the {kind}"
    asked = _filled(asked, kind)
    return Fact("colour_kind", kind, asked, colour, said, keys, noun, f"the {kind}", spots)


def kind_fact(colour: str, kind: str, spots: tuple[tuple[int, Box], ...] = ()) -> Fact:
    """Which shape the only thing of this colour is; `NONE`: there is none."""
    asked: tuple[str, ...] = (
        "What shape is the {0} object{where}?",
        "What is the {0} object{where}?",
        "Which shape is {0}{where}?",
    )
    said = f"There is no {colour} object." if kind == NONE else f"The {colour} object is a {kind}."
    keys = ("shape", "kind", "answer", "object", "type")
    named = f"the {colour} object"
    noun = f"the shape of {named}"
    asked = _filled(asked, colour)
    return Fact("colour_kind", colour, asked, kind, said, keys, noun, named, spots)


def _filled(wordings: Sequence[str], name: str) -> tuple[str, ...]:
    return tuple(wording.replace("{0}", name) for wording in wordings)


def _colours_and_kinds(things: Sequence[Seen], spots: bool = True) -> list[Fact]:
    kinds = Counter(thing.kind for thing in things)
    colours = Counter(thing.colour for thing in things)
    facts = []
    for thing in things:
        if kinds[thing.kind] == 1:
            where = ((len(thing.colour), thing.box),) if spots else ()
            facts.append(colour_fact(thing.kind, thing.colour, where))
        if colours[thing.colour] == 1:
            where = ((len(thing.kind), thing.box),) if spots else ()
            facts.append(kind_fact(thing.colour, thing.kind, where))
    return facts


def count_fact(name: str, count: int) -> Fact:
    """How many things of this name there are; the name is a plural."""
    asked = ("How many {0} are there{where}?", "Count the {0}{where}.", "How many {0}{where}?")
    one = name.removesuffix("es") if name.endswith("sses") else name.removesuffix("s")
    said = f"There is 1 {one}." if count == 1 else f"There are {count} {name}."
    keys = ("count", "number", "answer", "total", name.replace(" ", "_"))
    noun, again = f"the number of {name}", f"how many {name}"
    return Fact("counting", name, _filled(asked, name), count, said, keys, noun, again)


def _counts(rng: np.random.Generator, things: Sequence[Seen]) -> list[Fact]:
    counts = Counter({"objects": len(things)})
    counts.update(plural(thing.kind) for thing in things)
    counts.update(f"{thing.colour} objects" for thing in things)
    names = [*map(plural, KINDS), *(f"{colour} objects" for colour in COLOURS)]
    absent = [name for name in names if name not in counts]
    # Most is there once: the rest is asked about as often together.
    once = [name for name, count in counts.items() if count == 1]
    more = [name for name, count in counts.items() if count > 1]
    chosen = [*more, *more, *([once[rng.integers(len(once))]] if once else [])]
    chosen.append(absent[rng.integers(len(absent))])
    return [count_fact(name, counts[name]) for name in chosen]


def _text(string: str, said: str, spots: tuple[tuple[int, Box], ...] = ()) -> Fact:
    asked = (
        "Read the text{where}.",
        "What does the text{where} say?",
        "What is written{where}?",
    )
    keys = ("text", "answer", "content")
    return Fact("reading", "text", asked, string, said, keys, "the text", "", spots)


def _boxes(things: Sequence[Seen]) -> list[Fact]:
    labels = Counter(thing.label for thing in things)
    kinds = Counter(thing.kind for thing in things)
    facts = []
    for thing in things:
        if labels[thing.label] == 1:
            facts.append(box_fact(thing.label, [thing]))
            x1, y1, x2, y2 = thing.box
            point = {"point_2d": [round((x1 + x2) / 2), round((y1 + y2) / 2)], "label": thing.label}
            said = json.dumps([point])
            asked = tuple(f"Point {to} the {thing.label}{{where}}." for to in ("to", "at"))
            spots = ((len(said), thing.box),)
            facts.append(Fact("points", thing.label, asked, [point], said, (), "", "", spots))
    for kind, count in kinds.items():
        if 1 < count <= 3:
            alike = sorted((thing for thing in things if thing.kind == kind), key=lambda t: t.box)
            facts.append(box_fact(plural(kind), alike))
    return facts


def box_fact(name: str, found: Sequence[Seen]) -> Fact:
    """Where these are, as Qwen2.5-VL writes it; the name is a label, or a kind's plural."""
    named = f"all {name}" if name in map(plural, KINDS) else f"the {name}"
    asked = [f"Locate {named}{{where}}.", f"Give the bounding box of {named}{{where}}."]
    asked.append(f"Detect {named}{{where}}.")
    if not named.startswith("all"):
        asked.append(f"Where is {named}{{where}}?")
    answer = grounding(found)
    ends = [len(grounding(found[: count + 1])) - 1 for count in range(len(found))]
    spots = tuple(zip(ends, (thing.box for thing in found), strict=True))
    return Fact("boxes", name, tuple(asked), json.loads(answer), answer, (), "", named, spots)


def _caption(things: Sequence[Seen]) -> Fact:
    named = [an(thing.label) for thing in sorted(things, key=lambda t: t.box)]
    joined = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    asked = (
        *("Describe the image.", "What is in this image?", "What's in this image?"),
        *("Describe this image.", "What do you see?", "What can you see in the image?"),
        "What is in the picture?",
    )
    said = _sentence(joined)
    return Fact("caption", "", asked, said, said, ("description", "caption"))


def _absent(rng: np.random.Generator, things: Sequence[Seen], text: SeenText | None) -> list[Fact]:
    kinds, colours = {thing.kind for thing in things}, {thing.colour for thing in things}
    labels = {thing.label for thing in things}
    facts = [colour_fact(kind, NONE) for kind in KINDS if kind not in kinds]
    facts += [kind_fact(colour, NONE) for colour in COLOURS if colour not in colours]
    if text is None:
        facts += [_text(NONE, "There is no text.")] * 3
    facts += [
        box_fact(label, [])
        for kind in KINDS
        if (label := f"{list(COLOURS)[rng.integers(len(COLOURS))]} {kind}") not in labels
    ]
    return facts


def _time(event: Event) -> Fact:
    if event.action == "turn":
        assert event.after is not None
        named = f"the {event.subject.kind} turn {event.after.colour}"
    else:
        named = f"the {event.subject.label} {event.action}"
    return time_fact(named, event.phrase, event.second)


def time_fact(named: str, phrase: str, second: int | None) -> Fact:
    """When something happens, e.g. ``the red circle leave``, ``the red circle leaves``."""
    asked = (f"When does {named}{{where}}?", f"At what second does {named}{{where}}?")
    answer = NONE if second is None else mm_ss(second)
    said = "It does not happen." if second is None else f"{_sentence(phrase)[:-1]} at {answer}."
    keys = ("time", "timestamp", "answer", "second", "start")
    moments = () if second is None else ((named, second),)
    again = f"when does {named}"
    return Fact("event_time", named, asked, answer, said, keys, "", again, (), moments)


def _orders(rng: np.random.Generator, events: Sequence[Event]) -> list[Fact]:
    """Which of two or three events is the first or the last."""
    if len(events) < 2:
        return []
    facts = []
    for which, at in (("first", 0), ("last", -1)):
        mixed = [events[index] for index in rng.permutation(len(events))]
        *some, last = [event.phrase for event in mixed]
        asked = f"What happens {which}{{where}}: {', '.join(some)} or {last}?"
        found = sorted(events, key=lambda event: event.second)[at].phrase
        moments = tuple((event.phrase, event.second) for event in mixed)
        said = f"{_sentence(found)[:-1]} {which}."
        keys = (which, "answer", "event")
        facts.append(Fact("order", which, (asked,), found, said, keys, moments=moments))
    return facts


def _absent_event(rng: np.random.Generator, clip: Clip) -> Fact:
    happens = {(e.subject.kind, e.subject.colour, e.action) for e in clip.events}
    while True:
        kind, colour = KINDS[rng.integers(len(KINDS))], list(COLOURS)[rng.integers(len(COLOURS))]
        action = ACTIONS[rng.integers(2)]  # a turn is named by its end
        if (kind, colour, action) not in happens:
            return time_fact(f"the {colour} {kind} {action}", "", None)

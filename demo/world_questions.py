"""Questions about scenes and clips, with the answers that Qwen2.5-VL's conventions ask for."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saccade.demo.answers import mm_ss
from saccade.demo.world import COLOURS, KINDS, Box, Thing
from saccade.demo.world_clips import Clip, Event

TASKS = ("colour_kind", "counting", "reading", "boxes", "points", "caption", "event_time", "order")
_MOST_BOXES = 3


@dataclass(frozen=True)
class Turn:
    """A question and its answer."""

    task: str  # one of TASKS
    question: str
    answer: str


@dataclass(frozen=True)
class Seen:
    """A thing as the model sees it: its box in pixels of the resized picture."""

    kind: str
    colour: str
    box: Box

    @property
    def label(self) -> str:
        """As a question names it, e.g. ``red circle``."""
        return f"{self.colour} {self.kind}"


def see(things: Sequence[Thing], scale_x: float, scale_y: float) -> list[Seen]:
    """The things of a picture that is resized by these factors."""
    return [
        Seen(
            thing.kind,
            thing.colour,
            (
                thing.box[0] * scale_x,
                thing.box[1] * scale_y,
                thing.box[2] * scale_x,
                thing.box[3] * scale_y,
            ),
        )
        for thing in things
    ]


def picture_turns(
    rng: np.random.Generator, things: Sequence[Seen], text: str | None, task: str
) -> list[Turn]:
    """The turns of one task that this picture allows, in random order."""
    makers = {
        "colour_kind": _colour_and_kind,
        "counting": _counting,
        "boxes": _boxes,
    }
    if task == "reading":
        turns = _reading(rng, text)
    elif task == "points":
        turns = _points(things)
    elif task == "caption":
        turns = _caption(things)
    else:
        turns = makers[task](rng, things)
    return [turns[index] for index in rng.permutation(len(turns))]


def clip_turns(rng: np.random.Generator, clip: Clip, task: str) -> list[Turn]:
    """The turns of one task that this clip allows, in random order."""
    if task == "event_time":
        turns = [Turn(task, _when(rng, event), mm_ss(event.second)) for event in clip.events]
    elif task == "order" and len(clip.events) > 1:
        first, second = clip.events[0].phrase, clip.events[1].phrase
        named = [first, second] if rng.random() < 0.5 else [second, first]
        turns = [Turn(task, f"What happens first: {named[0]} or {named[1]}?", first)]
    elif task == "colour_kind":
        turns = [
            Turn(task, f"What colour is the {thing.kind}?", thing.colour)
            for thing in clip.scene.things
        ]
    elif task == "caption":
        phrases = ", then ".join(event.phrase for event in clip.events)
        turns = [Turn(task, "What happens in the video?", phrases[0].upper() + phrases[1:] + ".")]
    else:
        turns = []
    return [turns[index] for index in rng.permutation(len(turns))]


def grounding(things: Sequence[Seen]) -> str:
    """Boxes as Qwen2.5-VL writes them."""
    return json.dumps(
        [{"bbox_2d": [round(edge) for edge in thing.box], "label": thing.label} for thing in things]
    )


def _unique(things: Sequence[Seen]) -> list[Seen]:
    labels = Counter(thing.label for thing in things)
    return [thing for thing in things if labels[thing.label] == 1]


def _colour_and_kind(rng: np.random.Generator, things: Sequence[Seen]) -> list[Turn]:
    kinds = Counter(thing.kind for thing in things)
    colours = Counter(thing.colour for thing in things)
    turns = []
    for thing in things:
        if kinds[thing.kind] == 1:
            asked = ("What colour is the {}?", "Which colour is the {}?")[rng.integers(2)]
            turns.append(Turn("colour_kind", asked.format(thing.kind), thing.colour))
        if colours[thing.colour] == 1:
            asked = ("What shape is the {} object?", "What is the {} object?")[rng.integers(2)]
            turns.append(Turn("colour_kind", asked.format(thing.colour), thing.kind))
    return turns


def _counting(rng: np.random.Generator, things: Sequence[Seen]) -> list[Turn]:
    asked = [("objects", len(things))]
    kinds = Counter(thing.kind for thing in things)
    colours = Counter(thing.colour for thing in things)
    asked += [(plural(kind), count) for kind, count in kinds.items()]
    asked += [(f"{colour} objects", count) for colour, count in colours.items()]
    absent = [plural(kind) for kind in KINDS if kind not in kinds]
    absent += [f"{colour} objects" for colour in COLOURS if colour not in colours]
    asked.append((absent[rng.integers(len(absent))], 0))
    # What occurs more than once is rarer than what occurs once, and harder: ask it twice as often.
    asked += [pair for pair in asked if pair[1] > 1]
    return [Turn("counting", f"How many {name} are there?", str(count)) for name, count in asked]


def plural(kind: str) -> str:
    """``circles``, ``crosses``."""
    return kind + ("es" if kind.endswith("s") else "s")


def _reading(rng: np.random.Generator, text: str | None) -> list[Turn]:
    if text is None:
        return []
    asked = ("Read the text.", "What does the text say?")[rng.integers(2)]
    return [Turn("reading", asked, text)]


def _boxes(rng: np.random.Generator, things: Sequence[Seen]) -> list[Turn]:
    turns = []
    for thing in _unique(things):
        asked = ("Locate the {}.", "Where is the {}?")[rng.integers(2)]
        turns.append(Turn("boxes", asked.format(thing.label), grounding([thing])))
    for kind in sorted({thing.kind for thing in things}):
        alike = sorted((thing for thing in things if thing.kind == kind), key=lambda t: t.box)
        if 1 < len(alike) <= _MOST_BOXES:
            turns.append(Turn("boxes", f"Locate all {plural(kind)}.", grounding(alike)))
    return turns


def _points(things: Sequence[Seen]) -> list[Turn]:
    turns = []
    for thing in _unique(things):
        x1, y1, x2, y2 = thing.box
        point = {"point_2d": [round((x1 + x2) / 2), round((y1 + y2) / 2)], "label": thing.label}
        turns.append(Turn("points", f"Point to the {thing.label}.", json.dumps([point])))
    return turns


def _caption(things: Sequence[Seen]) -> list[Turn]:
    if not things:
        return []
    named = [f"a {thing.label}" for thing in sorted(things, key=lambda t: t.box)]
    joined = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    joined = joined.replace("a orange", "an orange")
    return [Turn("caption", "Describe the image.", joined[0].upper() + joined[1:] + ".")]


def _when(rng: np.random.Generator, event: Event) -> str:
    asked = ("When does", "At what second does")[rng.integers(2)]
    if event.action == "turn":
        assert event.after is not None
        return f"{asked} the {event.subject.kind} turn {event.after.colour}?"
    return f"{asked} the {event.subject.label} {event.action}?"

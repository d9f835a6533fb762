"""Questions about scenes and videos, with the answers that Qwen2.5-VL's conventions ask for."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saccade.demo.world.answers import mm_ss
from saccade.demo.world.clips import Clip, Event
from saccade.demo.world.scenes import COLOURS, KINDS, Box, Text, Thing

TASKS = ("colour_kind", "counting", "reading", "boxes", "points", "caption", "event_time", "order")
_MOST_BOXES = 3


@dataclass(frozen=True)
class Turn:
    """A question and its answer."""

    task: str  # one of TASKS
    question: str
    answer: str
    # Where the answer is read off: up to which of its characters it is about which box, in pixels
    # of the resized image. Empty: about more than one place at once, or about none.
    spots: tuple[tuple[int, Box], ...] = ()
    # Which events the question names: at which of its characters one has been named, its second.
    moments: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Seen:
    """A thing as the model sees it: its box in pixels of the resized image."""

    kind: str
    colour: str
    box: Box

    @property
    def label(self) -> str:
        """As a question names it, e.g. ``red circle``."""
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True)
class SeenText:
    """Printed text as the model sees it: the box of each character, likewise."""

    string: str
    characters: tuple[Box, ...]


def see(things: Sequence[Thing], scale_x: float, scale_y: float) -> list[Seen]:
    """The things of an image that is resized by these factors."""
    return [
        Seen(
            thing.kind,
            thing.colour,
            _scaled(thing.box, scale_x, scale_y),
        )
        for thing in things
    ]


def see_text(text: Text, scale_x: float, scale_y: float) -> SeenText:
    """The text of an image that is resized by these factors."""
    return SeenText(text.string, tuple(_scaled(box, scale_x, scale_y) for box in text.characters))


def _scaled(box: Box, scale_x: float, scale_y: float) -> Box:
    return box[0] * scale_x, box[1] * scale_y, box[2] * scale_x, box[3] * scale_y


def picture_turns(
    rng: np.random.Generator, things: Sequence[Seen], text: SeenText | None, task: str
) -> list[Turn]:
    """The turns of one task that this image allows, in random order."""
    if task == "colour_kind":
        turns = _colour_and_kind(rng, things)
    elif task == "counting":
        turns = _counting(rng, things)
    elif task == "reading":
        turns = _reading(rng, text)
    elif task == "boxes":
        turns = _boxes(rng, things)
    elif task == "points":
        turns = _points(things)
    elif task == "caption":
        turns = _caption(things)
    else:
        raise ValueError(f"no task of pictures: {task!r}")
    return [turns[index] for index in rng.permutation(len(turns))]


def clip_turns(rng: np.random.Generator, clip: Clip, task: str) -> list[Turn]:
    """The turns of one task that this video allows, in random order."""
    if task == "event_time":
        turns = [_time(rng, event) for event in clip.events]
    elif task == "order" and len(clip.events) > 1:
        turns = [_order(clip.events), _order(clip.events[::-1])]
    elif task == "colour_kind":
        turns = _of_still_things(clip)
    elif task == "caption":
        phrases = ", then ".join(event.phrase for event in clip.events)
        turns = [Turn(task, "What happens in the video?", phrases[0].upper() + phrases[1:] + ".")]
    else:
        turns = []
    return [turns[index] for index in rng.permutation(len(turns))]


def _of_still_things(clip: Clip) -> list[Turn]:
    # No two things of a video are alike in kind or colour.
    turns = []
    for thing in clip.scene.things:
        turns += [
            Turn("colour_kind", f"What colour is the {thing.kind}?", thing.colour),
            Turn("colour_kind", f"What shape is the {thing.colour} object?", thing.kind),
        ]
    return turns


def grounding(things: Sequence[Seen]) -> str:
    """Boxes as Qwen2.5-VL writes them."""
    return json.dumps(
        [{"bbox_2d": [round(edge) for edge in thing.box], "label": thing.label} for thing in things]
    )


def _located(question: str, things: Sequence[Seen]) -> Turn:
    # With one thing less, the closing bracket stands where the next comma does.
    ends = [len(grounding(things[: count + 1])) - 1 for count in range(len(things))]
    spots = tuple(zip(ends, (thing.box for thing in things), strict=True))
    return Turn("boxes", question, grounding(things), spots)


def _about(task: str, question: str, answer: str, thing: Seen) -> Turn:
    return Turn(task, question, answer, ((len(answer), thing.box),))


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
            turns.append(_about("colour_kind", asked.format(thing.kind), thing.colour, thing))
        if colours[thing.colour] == 1:
            asked = ("What shape is the {} object?", "What is the {} object?")[rng.integers(2)]
            turns.append(_about("colour_kind", asked.format(thing.colour), thing.kind, thing))
    return turns


def _counting(rng: np.random.Generator, things: Sequence[Seen]) -> list[Turn]:
    asked = [("objects", len(things))]
    kinds = Counter(thing.kind for thing in things)
    colours = Counter(thing.colour for thing in things)
    asked += [(plural(kind), count) for kind, count in kinds.items()]
    asked += [(f"{colour} objects", count) for colour, count in colours.items()]
    absent = [plural(kind) for kind in KINDS if kind not in kinds]
    absent += [f"{colour} objects" for colour in COLOURS if colour not in colours]
    # Most is there once: counts are asked about equally often, none half as often.
    frequency = Counter(count for _, count in asked)
    most = max(frequency.values())
    asked = [pair for pair in asked for _ in range(most // frequency[pair[1]])]
    asked += [(absent[rng.integers(len(absent))], 0) for _ in range(-(-most // 2))]
    return [Turn("counting", f"How many {name} are there?", str(count)) for name, count in asked]


def plural(kind: str) -> str:
    """``circles``, ``crosses``."""
    return kind + ("es" if kind.endswith("s") else "s")


def _reading(rng: np.random.Generator, text: SeenText | None) -> list[Turn]:
    if text is None:
        return []
    asked = ("Read the text.", "What does the text say?")[rng.integers(2)]
    return [Turn("reading", asked, text.string, tuple(enumerate(text.characters, 1)))]


def _boxes(rng: np.random.Generator, things: Sequence[Seen]) -> list[Turn]:
    turns = []
    for thing in _unique(things):
        asked = ("Locate the {}.", "Where is the {}?")[rng.integers(2)]
        turns.append(_located(asked.format(thing.label), [thing]))
    for kind in sorted({thing.kind for thing in things}):
        alike = sorted((thing for thing in things if thing.kind == kind), key=lambda t: t.box)
        if 1 < len(alike) <= _MOST_BOXES:
            turns.append(_located(f"Locate all {plural(kind)}.", alike))
    return turns


def _points(things: Sequence[Seen]) -> list[Turn]:
    turns = []
    for thing in _unique(things):
        x1, y1, x2, y2 = thing.box
        point = {"point_2d": [round((x1 + x2) / 2), round((y1 + y2) / 2)], "label": thing.label}
        asked = f"Point to the {thing.label}."
        turns.append(_about("points", asked, json.dumps([point]), thing))
    return turns


def _caption(things: Sequence[Seen]) -> list[Turn]:
    if not things:
        return []
    named = [f"a {thing.label}" for thing in sorted(things, key=lambda t: t.box)]
    joined = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    joined = joined.replace("a orange", "an orange")
    return [Turn("caption", "Describe the image.", joined[0].upper() + joined[1:] + ".")]


def _time(rng: np.random.Generator, event: Event) -> Turn:
    asked = ("When does", "At what second does")[rng.integers(2)]
    if event.action == "turn":
        assert event.after is not None
        named = f"{asked} the {event.subject.kind} turn {event.after.colour}"
    else:
        named = f"{asked} the {event.subject.label} {event.action}"
    moments = ((len(named), event.second),)
    return Turn("event_time", f"{named}?", mm_ss(event.second), moments=moments)


def _order(events: Sequence[Event]) -> Turn:
    """Asks for the earlier of two events, which are named as they are given."""
    one, other = events
    named = f"What happens first: {one.phrase}"
    both = f"{named} or {other.phrase}"
    first = min(one, other, key=lambda event: event.second)
    moments = ((len(named), one.second), (len(both), other.second))
    return Turn("order", f"{both}?", first.phrase, moments=moments)

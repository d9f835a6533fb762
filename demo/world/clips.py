"""Videos in which shapes appear, change colour or leave, and when."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from saccade.demo.world.scenes import COLOURS, Pixels, Scene, Thing, draw, make_scene, recoloured

SOURCE_RATES = (8, 12)
ACTIONS = ("appear", "leave", "turn")


@dataclass(frozen=True)
class Event:
    """Something that happens to one thing. ``after`` is None when the thing has left."""

    second: int  # what a question about it is answered with
    time: float  # when it happens, at most 0.3 s before that second
    action: str
    before: Thing | None
    after: Thing | None

    @property
    def phrase(self) -> str:
        """As an answer says it, e.g. ``the red circle appears``."""
        if self.action == "turn":
            assert self.before is not None
            assert self.after is not None
            return f"the {self.before.kind} turns {self.after.colour}"
        return f"the {self.subject.label} {self.action}s"

    @property
    def subject(self) -> Thing:
        """The thing that it happens to."""
        thing = self.before or self.after
        assert thing is not None
        return thing


@dataclass(frozen=True)
class Clip:
    """A still scene and what changes in it."""

    scene: Scene  # its things are those that nothing happens to
    events: tuple[Event, ...]  # by time
    fps: int  # frames per second of the source
    seconds: int

    @property
    def frames(self) -> int:
        """How many frames the source has."""
        return self.fps * self.seconds

    def at(self, time: float) -> tuple[Thing, ...]:
        """The things that are visible at this second."""
        changing = (event.after if time >= event.time else event.before for event in self.events)
        return (*self.scene.things, *(thing for thing in changing if thing is not None))

    def render(self, indices: Sequence[int]) -> Pixels:
        """These source frames, uint8 RGB ``[frames, height, width, 3]``."""
        drawn: dict[tuple[Thing, ...], Pixels] = {}
        frames = []
        for index in indices:
            things = self.at(index / self.fps + 1e-6)
            if things not in drawn:
                drawn[things] = draw(replace(self.scene, things=things))
            frames.append(drawn[things])
        return np.stack(frames)


def make_clip(
    rng: np.random.Generator,
    width: int,
    height: int,
    seconds: int,
    early: bool = False,
) -> Clip:
    """A video with one or two events and up to two more things; all kinds and colours differ.

    Args:
        early: let events happen up to 0.3 s before the whole second that is their answer. Sampled
            at one frame a second or more they are still seen at that second or just before.
    """
    fps = SOURCE_RATES[rng.integers(len(SOURCE_RATES))]
    while True:
        scene = make_scene(rng, width, height, int(rng.integers(1, 5)), distinct=True)
        if scene.things:
            break
    count = min(len(scene.things), int(rng.integers(1, 3)))
    chosen = rng.choice(np.arange(1, seconds), size=count, replace=False)
    events = []
    for thing, second in zip(scene.things[:count], sorted(chosen.tolist()), strict=True):
        time = second - (float(rng.uniform(0, 0.3)) if early else 0.0)
        action = ACTIONS[rng.integers(len(ACTIONS))]
        before: Thing | None = thing
        after: Thing | None = None
        if action == "appear":
            before, after = None, thing
        elif action == "turn":
            free = [name for name in COLOURS if name not in {t.colour for t in scene.things}]
            after = recoloured(thing, free[rng.integers(len(free))], rng)
        events.append(Event(second, time, action, before, after))
    still = replace(scene, things=scene.things[count:])
    return Clip(still, tuple(events), fps, seconds)


def make_long_clip(
    rng: np.random.Generator, width: int, height: int, seconds: int, seen: Sequence[int]
) -> Clip:
    """A video of one frame a second with one to three events, each at one of the seconds ``seen``.

    All kinds and colours differ.
    """
    while True:
        scene = make_scene(rng, width, height, int(rng.integers(2, 5)), distinct=True)
        if scene.things:
            break
    count = min(len(scene.things), int(rng.integers(1, 4)))
    chosen = sorted(rng.choice(np.array(seen), size=count, replace=False).tolist())
    events = [_event(rng, scene, scene.things[i], second) for i, second in enumerate(chosen)]
    still = replace(scene, things=scene.things[count:])
    return Clip(still, tuple(events), 1, seconds)


def _event(rng: np.random.Generator, scene: Scene, thing: Thing, second: int) -> Event:
    action = ACTIONS[rng.integers(len(ACTIONS))]
    if action == "appear":
        return Event(second, second, action, None, thing)
    if action == "leave":
        return Event(second, second, action, thing, None)
    free = [name for name in COLOURS if name not in {t.colour for t in scene.things}]
    after = recoloured(thing, free[rng.integers(len(free))], rng)
    return Event(second, second, action, thing, after)

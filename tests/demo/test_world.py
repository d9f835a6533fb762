"""The generator draws what it says, answers truthfully, and shows what the server would show."""

import json
from collections import Counter

import numpy as np
import pytest
from loading import load_video

from saccade.demo.evaluation.requests import encode_lossless
from saccade.demo.world.clips import Clip, Event
from saccade.demo.world.examples import (
    MOST_CELLS,
    TRAINING_RATES,
    UNIT,
    UNSEEN_RATES,
    UNSEEN_SIZES,
    clip_controls,
    clip_example,
    clip_plan,
    picture_example,
    picture_sizes,
    random_clip,
)
from saccade.demo.world.questions import TASKS, Seen, SeenText, clip_turns, picture_turns
from saccade.demo.world.scenes import COLOURS, KINDS, Thing, draw, make_scene
from saccade.media.limits import MediaLimits

EVERY_TASK = ("colour_kind", "counting", "reading", "boxes", "points", "caption")
THINGS = [
    Seen("circle", "red", (10.2, 20.0, 50.4, 60.0)),
    Seen("star", "blue", (70.0, 10.0, 90.0, 30.0)),
    Seen("star", "green", (60.0, 40.0, 99.0, 80.0)),
]


TEXT = SeenText("OPEN", tuple((10.0 * i, 5.0, 10.0 * i + 9, 20.0) for i in range(4)))


def answers(task: str, things=THINGS, text=TEXT) -> dict[str, str]:
    turns = picture_turns(np.random.default_rng(0), things, text, task)
    assert {turn.task for turn in turns} <= {task}
    return {turn.question: turn.answer for turn in turns}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_thing_fills_its_box_with_its_colour_and_nothing_else(kind: str, colour: str):
    backdrop = np.full((90, 110, 3), (128, 90, 128), np.uint8)
    thing = Thing(kind, colour, x=52.3, y=40.8, radius=25.0, paint=COLOURS[colour])
    scene = make_scene(np.random.default_rng(0), 110, 90, 0)
    scene = type(scene)(110, 90, (thing,), (), backdrop)
    drawn = draw(scene)
    changed = np.argwhere((drawn != backdrop).any(axis=2))
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0) + 1
    assert np.abs(np.array([left, top, right, bottom]) - thing.box).max() <= 1.5
    middle = drawn[41, 52]
    assert np.array_equal(middle, COLOURS[colour])


def test_questions_have_true_answers():
    assert answers("counting")["How many objects are there?"] == "3"
    assert answers("counting")["How many stars are there?"] == "2"
    assert answers("counting")["How many red objects are there?"] == "1"
    assert "0" in answers("counting").values()
    assert set(answers("reading").values()) == {"OPEN"}
    kinds_and_colours = answers("colour_kind")
    assert any("circle" in asked and said == "red" for asked, said in kinds_and_colours.items())
    assert any("green" in asked and said == "star" for asked, said in kinds_and_colours.items())
    assert not any("star?" in asked for asked in kinds_and_colours), "there are two stars"
    assert answers("caption") == {
        "Describe the image.": "A red circle, a green star and a blue star."
    }


def test_counts_are_asked_about_equally_often_and_none_half_as_often():
    turns = picture_turns(np.random.default_rng(0), THINGS, None, "counting")
    asked = Counter(turn.answer for turn in turns)
    # One is circles and three colours; two is stars and three is objects, again and again.
    assert asked == {"1": 4, "2": 4, "3": 4, "0": 2}


def test_grounding_is_what_qwen_writes():
    both = json.loads(answers("boxes")["Locate all stars."])
    assert both == [
        {"bbox_2d": [60, 40, 99, 80], "label": "green star"},
        {"bbox_2d": [70, 10, 90, 30], "label": "blue star"},
    ]
    points = answers("points")["Point to the red circle."]
    assert points == '[{"point_2d": [30, 40], "label": "red circle"}]'


def test_nothing_is_asked_about_text_that_is_not_there():
    assert answers("reading", text=None) == {}


def test_the_seed_decides_the_example():
    first, again, other = (
        picture_example(np.random.default_rng(seed), (6, 4), 3, EVERY_TASK, 6, True)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first.raster, again.raster)
    assert first.turns == again.turns
    assert first.turns != other.turns


@pytest.mark.parametrize("seed", range(20))
def test_boxes_are_in_pixels_of_the_resized_picture(seed: int):
    rng = np.random.default_rng(seed)
    sizes = picture_sizes(MOST_CELLS)
    size = sizes[rng.integers(len(sizes))]
    example = picture_example(rng, size, 3, ["boxes"], 6)
    _, height, width, _ = example.raster.shape
    assert (width // UNIT, height // UNIT) == size
    assert (width % UNIT, height % UNIT) == (0, 0)
    for turn in example.turns:
        for item in json.loads(turn.answer):
            x1, y1, x2, y2 = item["bbox_2d"]
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
    touched = {(int(k), int(c)) for k, c in zip(*_marked(example), strict=True)}
    expected = {
        (KINDS.index(t.kind) + 1, list(COLOURS).index(t.colour) + 1) for t in example.things
    }
    assert touched == expected


def _marked(example):
    some = example.targets.kind > 0
    return example.targets.kind[some], example.targets.colour[some]


def test_training_keeps_away_from_what_is_held_out():
    assert not set(picture_sizes(MOST_CELLS)) & UNSEEN_SIZES
    assert set(picture_sizes(MOST_CELLS, unseen=True)) == UNSEEN_SIZES
    assert not set(TRAINING_RATES) & set(UNSEEN_RATES)


def moving(kind: str, colour: str, x: float) -> Thing:
    return Thing(kind, colour, x=x, y=56, radius=20, paint=COLOURS[colour])


@pytest.fixture
def clip() -> Clip:
    scene = make_scene(np.random.default_rng(3), 112, 112, 0)
    star, circle = moving("star", "white", 30), moving("circle", "red", 80)
    blue = moving("circle", "blue", 80)
    events = (Event(2, 2.0, "appear", None, star), Event(5, 4.8, "turn", circle, blue))
    return Clip(scene, events, fps=8, seconds=7)


def test_events_happen_when_they_should(clip: Clip):
    assert [thing.label for thing in clip.at(1.9)] == ["red circle"]
    assert [thing.label for thing in clip.at(2.0)] == ["white star", "red circle"]
    assert [thing.label for thing in clip.at(4.8)] == ["white star", "blue circle"]
    frames = clip.render(range(clip.frames))
    changes = (frames[1:] != frames[:-1]).any(axis=(1, 2, 3))
    assert (np.flatnonzero(changes) + 1).tolist() == [16, 39]  # 39 is the first frame from 4.8 s


def test_questions_about_a_clip_have_true_answers(clip: Clip):
    def asked(task: str) -> dict[str, str]:
        turns = clip_turns(np.random.default_rng(0), clip, task)
        return {turn.question: turn.answer for turn in turns}

    times = asked("event_time")
    assert sorted(times.values()) == ["00:02", "00:05"]
    assert any("circle turn blue" in question for question in times)
    assert asked("order") == {
        "What happens first: the white star appears or the circle turns blue?": (
            "the white star appears"
        ),
        "What happens first: the circle turns blue or the white star appears?": (
            "the white star appears"
        ),
    }
    assert list(asked("caption").values()) == [
        "The white star appears, then the circle turns blue."
    ]


@pytest.mark.parametrize("fps", [*TRAINING_RATES, *UNSEEN_RATES])
def test_an_event_is_first_seen_at_its_second(fps: float):
    for seed in range(10):
        clip = random_clip(np.random.default_rng(seed), 20, 4 + 2 * (seed % 4), early=False)
        plan = clip_plan(clip, fps)
        for event in clip.events:
            seen = next(time for time in plan.frame_times if time + 1e-6 >= event.time)
            # Whole seconds stay apart: no frame of the next second shows it first.
            assert event.second <= seen < event.second + 1
        example = clip_example(
            np.random.default_rng(seed), clip, fps, ["event_time"], 4, worn=False
        )
        steps = np.flatnonzero(example.targets.event.any(axis=(1, 2)))
        assert 1 <= len(steps) <= len(clip.events)


@pytest.mark.parametrize("fps", [1.0, 1.5, 4.0])
def test_the_model_is_shown_what_the_server_decodes(fps: float):
    clip = random_clip(np.random.default_rng(11), 20, 6, early=False)
    example = clip_example(np.random.default_rng(0), clip, fps, ["event_time"], 1, worn=False)
    encoded = encode_lossless(clip.render(range(clip.frames)), clip.fps)
    decoded, plan = load_video(encoded, clip_controls(clip, fps), MediaLimits())
    assert np.array_equal(decoded, example.raster)
    assert plan.seconds_per_grid == example.seconds_per_grid


def test_every_task_is_asked():
    rng = np.random.default_rng(4)
    asked: set[str] = set()
    for _ in range(10):
        example = picture_example(rng, (8, 6), 4, EVERY_TASK, 6, with_text=True)
        asked |= {turn.task for turn in example.turns}
        clip = random_clip(rng, 20, 6, early=True)
        turns = clip_example(rng, clip, 2.0, ["event_time", "order"], 4).turns
        asked |= {turn.task for turn in turns}
    assert asked == set(TASKS)

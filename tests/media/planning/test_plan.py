"""Sizes and frames equal those of qwen-vl-utils; what it cannot plan is refused by name."""

import dataclasses
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.errors import ControlError, DecodeError, MediaError
from saccade.media.planning.plan import (
    PixelLimits,
    VideoPlan,
    VideoSource,
    VisionGeometry,
    plan_frame_list,
    plan_image,
    plan_video,
)
from saccade.media.planning.resize_rules import smart_resize
from saccade.media.planning.sampling import sampled_frames

CASES = 10_000
GEOMETRY = VisionGeometry()
LIMITS = PixelLimits()
RATES = (1.0, 10.0, 15.0, 24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60000 / 1001, 120.0)

Ask = Callable[..., Any]


def some_side(chance: random.Random) -> int:
    """Mostly everyday sides, some tiny, huge, or halfway between two multiples of 28."""
    return chance.choice(
        (
            chance.randint(1, 60),
            chance.randint(1, 4000),
            chance.randint(1, 20_000),
            28 * chance.randint(0, 200) + 14,
            28 * chance.randint(1, 200),
        )
    )


def some_pixels(chance: random.Random) -> int:
    return int(math.exp(chance.uniform(math.log(1), math.log(2e7))))


def given_controls(controls: Any) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(controls).items() if value is not None}


def assert_same_or_refused(
    ours: Callable[[], Any], theirs: Any, refusals: tuple[type[MediaError], ...], case: Any
) -> None:
    """``theirs`` is null where the reference raises."""
    if theirs is None:
        with pytest.raises(refusals):
            print(case, ours())
    else:
        assert ours() == theirs, case


def test_smart_resize_equals_the_reference(reference: Ask) -> None:
    chance = random.Random(20240901)
    cases = [
        (1, 1, 28, 3136, 12_845_056),
        (1, 200, 28, 3136, 12_845_056),
        (1, 201, 28, 3136, 12_845_056),
        (14, 42, 28, 1, 10**9),
        (42, 70, 28, 1, 10**9),
        (100_000, 100_000, 28, 3136, 12_845_056),
        (10, 2000, 28, 784, 784),
        (1080, 1920, 28, 100, 99),
        (1080, 1920, 28, 602_112, 602_112),
    ]
    while len(cases) < CASES:
        factor = chance.choice((28, 28, 28, 32, 56))
        least, most = some_pixels(chance), some_pixels(chance)
        if chance.random() < 0.95:
            least, most = sorted((least, most))
        cases.append((some_side(chance), some_side(chance), factor, least, most))
    answers = reference("smart_resize", cases=cases)
    assert sum(answer is None for answer in answers) > 100
    vanished = [answer is not None and min(answer) == 0 for answer in answers]
    assert any(vanished)
    for case, answer, nothing in zip(cases, answers, vanished, strict=True):
        # Where the reference hands out a picture of no pixels, ours refuses.
        expected = None if nothing or answer is None else tuple(answer)
        assert_same_or_refused(
            lambda case=case: smart_resize(*case), expected, (ControlError, DecodeError), case
        )


def test_image_plans_equal_the_reference(reference: Ask) -> None:
    chance = random.Random(7)
    cases = []
    for _ in range(CASES):
        least, most = some_pixels(chance), some_pixels(chance)
        controls = chance.choice(
            (
                ImageControls(),
                ImageControls(max_pixels=most),
                ImageControls(min_pixels=least),
                ImageControls(min_pixels=least, max_pixels=most),
                ImageControls(resized_width=some_side(chance), resized_height=some_side(chance)),
            )
        )
        cases.append((some_side(chance), some_side(chance), controls))
    answers = reference(
        "image_size", cases=[(width, height, given_controls(c)) for width, height, c in cases]
    )

    def planned(width: int, height: int, controls: ImageControls) -> list[int]:
        plan = plan_image(width, height, controls, GEOMETRY, LIMITS)
        assert (plan.source_width, plan.source_height) == (width, height)
        assert plan.grid == (1, plan.height // 14, plan.width // 14)
        assert plan.tokens == plan.width * plan.height // 784
        return [plan.width, plan.height]

    for case, answer in zip(cases, answers, strict=True):
        assert_same_or_refused(
            lambda case=case: planned(*case), answer, (ControlError, DecodeError), case
        )


def some_video_controls(chance: random.Random, seconds: float) -> VideoControls:
    fields: dict[str, Any] = {}
    if chance.random() < 0.3:
        fields["nframes"] = chance.choice((2, 3, 5, 7, 16, 64, chance.randint(2, 1000)))
    else:
        if chance.random() < 0.5:
            fields["fps"] = chance.choice((0.1, 0.5, 1.0, 2, 4, 29.97, chance.uniform(0.01, 70)))
        if chance.random() < 0.2:
            fields["min_frames"] = chance.randint(1, 40)
        if chance.random() < 0.3:
            fields["max_frames"] = chance.choice((2, 3, 41, 768, chance.randint(2, 2000)))
    if chance.random() < 0.2:
        fields["video_start"] = chance.uniform(0, seconds * 1.2)
    if chance.random() < 0.2:
        fields["video_end"] = chance.uniform(0, seconds * 1.2)
    if chance.random() < 0.1:
        fields["resized_width"], fields["resized_height"] = some_side(chance), some_side(chance)
    if chance.random() < 0.2:
        fields["min_pixels"] = chance.randint(784, 300_000)
    if chance.random() < 0.3:
        fields["max_pixels"] = chance.randint(50_000, 1_000_000)
    if chance.random() < 0.3:
        fields["total_pixels"] = some_pixels(chance) * 10
    return VideoControls(**fields)


def test_video_plans_equal_the_reference(reference: Ask) -> None:
    chance = random.Random(11)
    cases = []
    for _ in range(CASES):
        frames = chance.choice((1, 2, 3, 4, 5, 9, chance.randint(1, 500), chance.randint(1, 10**6)))
        fps = chance.choice((*RATES, chance.uniform(0.5, 240)))
        source = VideoSource(chance.randint(16, 4096), chance.randint(16, 2304), frames, fps)
        cases.append((source, some_video_controls(chance, frames / fps)))
    answers = reference(
        "video_plan",
        cases=[(s.height, s.width, s.frames, s.fps, given_controls(c)) for s, c in cases],
    )
    assert 500 < sum(answer is None for answer in answers) < CASES / 2

    def planned(source: VideoSource, controls: VideoControls) -> list[Any]:
        plan = plan_video(source, controls, GEOMETRY)
        check_consistent(plan)
        return [list(plan.frame_indices), plan.height, plan.width, plan.sampled_fps]

    for case, answer in zip(cases, answers, strict=True):
        assert_same_or_refused(
            lambda case=case: planned(*case), answer, (ControlError, DecodeError), case
        )


def check_consistent(plan: VideoPlan) -> None:
    count = len(plan.frame_indices)
    assert plan.grid == (count // 2, plan.height // 14, plan.width // 14)
    assert plan.tokens == count // 2 * plan.height * plan.width // 784
    assert plan.seconds_per_grid == 2 / plan.sampled_fps
    assert plan.frame_times == tuple(index / plan.source_fps for index in plan.frame_indices)


def test_frame_indices_of_long_clips_equal_the_reference(reference: Ask) -> None:
    chance = random.Random(3)
    cases = [(0, 10**6 - 1, count) for count in (2, 4, 766, 768, 2048)]
    for _ in range(2000):
        first = chance.randint(0, 900_000)
        last = chance.randint(first + 1, 10**6)
        frames = last - first + 1
        cases.append((first, last, min(frames - frames % 2, chance.randint(1, 400) * 2)))
    answers = reference("linspace", cases=cases)
    for case, answer in zip(cases, answers, strict=True):
        first, last, count = case
        indices = sampled_frames(VideoControls(nframes=count), first, last, 1.0, 2)
        assert list(indices) == answer, case


@given(
    width=st.integers(1, 10**5),
    height=st.integers(1, 10**5),
    least=st.integers(1, 10**8),
    span=st.integers(0, 10**8),
)
def test_smart_resize_keeps_its_promise(width: int, height: int, least: int, span: int) -> None:
    try:
        new_height, new_width = smart_resize(height, width, 28, least, least + span)
    except DecodeError:
        event("too long a shape")
        assert max(width, height) / min(width, height) > 200
    except ControlError:
        event("nothing left")
        assert least + span < 28 * 28 * 200
    else:
        assert new_height % 28 == new_width % 28 == 0
        assert min(new_height, new_width) > 0


def test_sixteen_nine_frames_meet_the_clip_budget() -> None:
    """By hand: 768 frames share 90,316,800 pixels, two a step: at most 235,200 a frame."""
    plan = plan_video(VideoSource(1920, 1080, 23_040, 30.0), VideoControls(), GEOMETRY)
    assert len(plan.frame_indices) == 768
    assert (plan.width, plan.height) == (644, 336)
    assert plan.grid == (384, 24, 46)
    assert plan.frame_indices[-1] == 23_039
    assert plan.sampled_fps == 1.0
    assert plan.seconds_per_grid == 2.0


@pytest.mark.parametrize(
    ("source", "controls", "error", "param"),
    [
        ((64, 64, 1, 25.0), {}, DecodeError, None),
        ((64, 64, 0, 25.0), {}, DecodeError, None),
        ((64, 64, 10, 0.0), {}, DecodeError, None),
        ((64, 64, 10, math.inf), {}, DecodeError, None),
        ((10, 4000, 10, 25.0), {}, DecodeError, None),
        ((64, 64, 10, 25.0), {"nframes": 12}, ControlError, "nframes"),
        ((64, 64, 10, 25.0), {"video_start": 5.0}, ControlError, "video_start"),
        ((64, 64, 10, 25.0), {"video_end": 0.01}, ControlError, "video_end"),
        ((64, 64, 10, 25.0), {"max_pixels": 50_000}, ControlError, "max_pixels"),
        ((64, 64, 10, 25.0), {"sample_fps": 1.0}, ControlError, "sample_fps"),
        ((64, 64, 10, 25.0), {"raw_fps": 1.0}, ControlError, "raw_fps"),
        (
            (64, 64, 10, 25.0),
            {"resized_width": 9000, "resized_height": 9},
            ControlError,
            "resized_width",
        ),
    ],
)
def test_impossible_clips_are_refused_by_name(
    source: tuple[int, int, int, float],
    controls: dict[str, Any],
    error: type[MediaError],
    param: str | None,
) -> None:
    with pytest.raises(error) as caught:
        plan_video(VideoSource(*source), VideoControls(**controls), GEOMETRY)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("size", "controls", "param"),
    [
        ((1, 190), {"min_pixels": 1, "max_pixels": 784}, "max_pixels"),
        ((100, 100), {"max_pixels": 3000}, "max_pixels"),
        ((100, 100), {"min_pixels": 13_000_000}, "min_pixels"),
    ],
)
def test_impossible_images_are_refused_by_name(
    size: tuple[int, int], controls: dict[str, int], param: str
) -> None:
    with pytest.raises(ControlError) as caught:
        plan_image(*size, ImageControls(**controls), GEOMETRY, LIMITS)
    assert caught.value.param == param


def test_default_image_limits_are_the_checkpoints() -> None:
    limits = PixelLimits(min_pixels=784 * 100, max_pixels=784 * 200)
    small = plan_image(28, 28, ImageControls(), GEOMETRY, limits)
    large = plan_image(2800, 2800, ImageControls(), GEOMETRY, limits)
    assert small.tokens == 100
    assert large.tokens == 196


def test_frame_lists_are_padded_and_timed() -> None:
    controls = VideoControls(sample_fps=0.5, raw_fps=30.0)
    plan = plan_frame_list([(640, 480)] * 3, controls, GEOMETRY)
    assert plan.frame_indices == (0, 1, 2, 2)
    assert plan.frame_times == (0.0, 2.0, 4.0, 6.0)
    assert (plan.sampled_fps, plan.seconds_per_grid, plan.source_fps) == (0.5, 4.0, 30.0)
    assert plan.source_frames == 3


def test_frame_lists_refuse_what_only_files_have() -> None:
    for field in ("fps", "nframes", "min_frames", "max_frames", "video_start", "video_end"):
        with pytest.raises(ControlError) as caught:
            plan_frame_list([(64, 64)] * 2, VideoControls(**{field: 4}), GEOMETRY)
        assert caught.value.param == field
    with pytest.raises(ControlError):
        plan_frame_list([], VideoControls(), GEOMETRY)
    with pytest.raises(DecodeError):
        plan_frame_list([(64, 64), (640, 64)], VideoControls(), GEOMETRY)

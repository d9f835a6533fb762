"""Controls are taken strictly: what is unknown, impossible or contradictory names its field."""

from typing import Any

import pytest

from saccade.media.controls import ImageControls, VideoControls, parse_controls
from saccade.media.errors import ControlError

PATH = "messages[0].content[1]"

IMAGE_FIELDS = ("min_pixels", "max_pixels", "resized_width", "resized_height")
COUNTS = (*IMAGE_FIELDS, "nframes", "min_frames", "max_frames", "total_pixels")
REALS = ("fps", "video_start", "video_end", "sample_fps", "raw_fps")


def test_every_field_of_qwen_vl_utils_is_known() -> None:
    image = {"min_pixels": 3136, "max_pixels": 1_003_520}
    assert parse_controls(ImageControls, image, PATH) == ImageControls(**image)
    size = {"resized_width": 560, "resized_height": 420}
    assert parse_controls(ImageControls, size, PATH) == ImageControls(**size)
    clip = {
        "fps": 2,
        "min_frames": 4,
        "max_frames": 768,
        "video_start": 12.5,
        "video_end": 60,
        "min_pixels": 100_352,
        "max_pixels": 602_112,
        "total_pixels": 19_267_584,
    }
    assert parse_controls(VideoControls, clip, PATH) == VideoControls(**clip)
    assert parse_controls(VideoControls, {"nframes": 16}, PATH) == VideoControls(nframes=16)
    frames = {"sample_fps": 1.0, "raw_fps": 30.0}
    assert parse_controls(VideoControls, frames, PATH) == VideoControls(**frames)


def test_null_is_not_given() -> None:
    fields = dict.fromkeys((*COUNTS, *REALS))
    assert parse_controls(VideoControls, fields, PATH) == VideoControls()
    assert parse_controls(ImageControls, dict.fromkeys(IMAGE_FIELDS), PATH) == ImageControls()


NOT_COUNTS = [True, False, "100", 100.0, -1, 0, 10**30, float("nan"), float("inf"), [100], {}]
NOT_REALS = [True, "2.0", -1.0, float("nan"), float("inf"), -float("inf"), 10**400, [1.0], {}]


@pytest.mark.parametrize("value", NOT_COUNTS, ids=repr)
@pytest.mark.parametrize("field", COUNTS)
def test_bad_counts_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ControlError) as caught:
        parse_controls(VideoControls, {field: value}, PATH)
    assert caught.value.param == f"{PATH}.{field}"
    assert field in caught.value.message
    if field in IMAGE_FIELDS:
        with pytest.raises(ControlError) as caught:
            parse_controls(ImageControls, {field: value}, PATH)
        assert caught.value.param == f"{PATH}.{field}"


@pytest.mark.parametrize("value", NOT_REALS, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize("field", REALS)
def test_bad_numbers_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ControlError) as caught:
        parse_controls(VideoControls, {field: value}, PATH)
    assert caught.value.param == f"{PATH}.{field}"
    assert field in caught.value.message


def test_rates_of_zero_are_refused() -> None:
    for field in ("fps", "sample_fps", "raw_fps"):
        with pytest.raises(ControlError) as caught:
            parse_controls(VideoControls, {field: 0}, PATH)
        assert caught.value.param == f"{PATH}.{field}"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_pixel": 100}, "max_pixel"),
        ({"max_pixels": 100, "colour": 1}, "colour"),
        ({"resized_width": 560}, "resized_width"),
        ({"resized_height": 560}, "resized_height"),
        ({"min_pixels": 200, "max_pixels": 100}, "min_pixels"),
        ({"resized_width": 56, "resized_height": 56, "max_pixels": 9999}, "max_pixels"),
        ({"resized_width": 56, "resized_height": 56, "min_pixels": 9999}, "min_pixels"),
    ],
)
def test_contradictions_of_both_kinds(fields: dict[str, Any], named: str) -> None:
    for kind in (ImageControls, VideoControls):
        with pytest.raises(ControlError) as caught:
            parse_controls(kind, fields, PATH)
        assert caught.value.param == f"{PATH}.{named}"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"fps": 2.0, "nframes": 8}, "fps"),
        ({"nframes": 8, "max_frames": 8}, "max_frames"),
        ({"nframes": 8, "min_frames": 8}, "min_frames"),
        ({"min_frames": 10, "max_frames": 8}, "min_frames"),
        ({"video_start": 2.0, "video_end": 2.0}, "video_start"),
        ({"video_start": 3.0, "video_end": 2.0}, "video_start"),
        ({"video_end": 0.0}, "video_end"),
        ({"nframes": 1}, "nframes"),
        ({"max_frames": 1}, "max_frames"),
        ({"resized_width": 56, "resized_height": 56, "total_pixels": 9999}, "total_pixels"),
    ],
)
def test_contradictions_of_clips(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ControlError) as caught:
        parse_controls(VideoControls, fields, PATH)
    assert caught.value.param == f"{PATH}.{named}"


def test_images_know_no_clip_fields() -> None:
    with pytest.raises(ControlError) as caught:
        parse_controls(ImageControls, {"fps": 2.0}, PATH)
    assert caught.value.param == f"{PATH}.fps"


def test_a_long_unknown_name_is_not_echoed_whole() -> None:
    with pytest.raises(ControlError) as caught:
        parse_controls(ImageControls, {"x" * 100_000: 1}, PATH)
    assert len(caught.value.message) < 400
    assert len(caught.value.param or "") < 400


def test_detail_maps_to_a_budget() -> None:
    for same in (None, "auto", "high"):
        assert parse_controls(ImageControls, {"detail": same}, PATH) == ImageControls()
    low = ImageControls(max_pixels=512 * 512, draft=True)
    assert parse_controls(ImageControls, {"detail": "low"}, PATH) == low


def test_explicit_pixels_win_over_detail() -> None:
    for explicit in (
        {"max_pixels": 1_000_000},
        {"resized_width": 2000, "resized_height": 2000},
        {"min_pixels": 1_000_000},
    ):
        kept = parse_controls(ImageControls, {**explicit, "detail": "low"}, PATH)
        assert kept == ImageControls(**explicit)
    kept = parse_controls(ImageControls, {"min_pixels": 784, "detail": "low"}, PATH)
    assert kept == ImageControls(min_pixels=784, max_pixels=512 * 512, draft=True)


@pytest.mark.parametrize("detail", ["LOW", "", 1, True, [], {}])
def test_unknown_detail_is_refused(detail: Any) -> None:
    with pytest.raises(ControlError) as caught:
        parse_controls(ImageControls, {"detail": detail}, PATH)
    assert caught.value.param == f"{PATH}.detail"

"""Text passes media in vLLM's scheduler: real requests, without a model."""

import pytest
import torch
from vllm import EngineArgs, SamplingParams
from vllm.multimodal.inputs import (
    MultiModalBatchedField,
    MultiModalFeatureSpec,
    MultiModalFieldElem,
    MultiModalKwargsItem,
    PlaceholderRange,
)
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from saccade.model.cpu import scheduling
from saccade.model.cpu.scheduling import TextFirstScheduler
from saccade.server.checkpoint.bundled import bundled_checkpoint

_BLOCK, _BUDGET = 16, 64
_BATCHED = MultiModalBatchedField()
_TEXT, _MEDIA = 0, 1  # priorities, as the front end gives them


@pytest.fixture
def scheduler():
    config = EngineArgs(
        model=str(bundled_checkpoint()),
        max_model_len=2048,
        max_num_seqs=8,
        max_num_batched_tokens=_BUDGET,
        enable_prefix_caching=False,
        scheduling_policy="priority",
    ).create_engine_config()
    config.cache_config.num_gpu_blocks = 1000
    spec = FullAttentionSpec(block_size=_BLOCK, num_kv_heads=1, head_size=128, dtype=torch.bfloat16)
    cache = KVCacheConfig(1000, [], [KVCacheGroupSpec(["layer"], spec)])
    return TextFirstScheduler(config, cache, StructuredOutputManager(config), _BLOCK)


def text(name: str, tokens: int = 10) -> Request:
    return Request(name, [1] * tokens, SamplingParams(max_tokens=64), None, priority=_TEXT)


def images(name: str, *tokens: int) -> Request:
    """A prompt of images, each behind one token, and one token at the end."""
    features, length = [], 0
    for index, size in enumerate(tokens):
        place = PlaceholderRange(offset=length + 1, length=size)
        features.append(MultiModalFeatureSpec(None, "image", f"{name} {index}", place))
        length += 1 + size
    prompt, sampling = [1] * (length + 1), SamplingParams(max_tokens=64)
    return Request(name, prompt, sampling, None, mm_features=features, priority=_MEDIA)


def video(name: str, grids: int, side: int) -> Request:
    """A prompt of a video of ``side * side`` tokens a temporal index, between two tokens."""
    grid = torch.tensor([grids, 2 * side, 2 * side])
    data = {
        "pixel_values_videos": torch.zeros(int(grid.prod()), 1),
        "video_grid_thw": grid,
        "second_per_grid_ts": torch.tensor(1.0),
    }
    elements = {key: MultiModalFieldElem(value, _BATCHED) for key, value in data.items()}
    place = PlaceholderRange(offset=1, length=grids * side * side)
    feature = MultiModalFeatureSpec(MultiModalKwargsItem(elements), "video", name, place)
    prompt, sampling = [1] * (place.length + 2), SamplingParams(max_tokens=64)
    return Request(name, prompt, sampling, None, mm_features=[feature], priority=_MEDIA)


def run(scheduler: TextFirstScheduler) -> tuple[SchedulerOutput, list[str]]:
    """One step: what it computed, and whose tokens it gave, in the order in which they are sent."""
    output = scheduler.schedule()
    names = list(output.num_scheduled_tokens)
    done = {request.request_id: request for request in scheduler.running}
    sampled = [
        [5] if done[name].num_computed_tokens >= done[name].num_prompt_tokens else []
        for name in names
    ]
    places = {name: index for index, name in enumerate(names)}
    given = scheduler.update_from_output(output, ModelRunnerOutput(names, places, sampled))
    return output, [one.request_id for each in given.values() for one in each.outputs]


def step(scheduler: TextFirstScheduler) -> tuple[dict[str, int], dict[str, list[int]]]:
    """One step: how many tokens of each request it took, and which images it encoded."""
    output, _ = run(scheduler)
    return dict(output.num_scheduled_tokens), dict(output.scheduled_encoder_inputs)


def test_first_tokens_are_sent_first(scheduler):
    for name in ("a", "b"):
        scheduler.add_request(text(name))
    assert run(scheduler)[1] == ["a", "b"]
    for name in ("c", "d"):
        scheduler.add_request(text(name))
    assert run(scheduler)[1] == ["c", "d", "a", "b"]
    assert run(scheduler)[1] == ["a", "b", "c", "d"]


def test_a_image_that_waits_lets_text_pass(scheduler):
    scheduler.add_request(images("image", 30))
    scheduler.add_request(text("text"))
    assert step(scheduler) == ({"text": 10}, {})
    assert step(scheduler) == ({"text": 1, "image": 32}, {"image": [0]})


def test_a_image_that_is_half_in_lets_text_pass(scheduler):
    scheduler.add_request(images("image", 100))
    assert step(scheduler) == ({"image": _BUDGET}, {"image": [0]})
    scheduler.add_request(text("text"))
    assert step(scheduler) == ({"text": 10}, {})
    assert step(scheduler) == ({"text": 1, "image": 102 - _BUDGET}, {})


def test_an_answer_about_a_image_lets_text_pass(scheduler):
    scheduler.add_request(images("image", 10))
    assert step(scheduler) == ({"image": 12}, {"image": [0]})
    scheduler.add_request(text("text"))
    assert step(scheduler) == ({"text": 10}, {})
    scheduler.add_request(text("next"))
    assert step(scheduler) == ({"image": 1, "text": 1, "next": 10}, {})  # but not for long


def test_text_longer_than_a_step_goes_in_whole(scheduler):
    scheduler.add_request(images("image", 30))
    scheduler.add_request(text("text", 100))
    assert step(scheduler) == ({"text": _BUDGET}, {})
    assert step(scheduler) == ({"text": 100 - _BUDGET}, {})
    assert step(scheduler) == ({"text": 1, "image": 32}, {"image": [0]})


def test_text_that_finds_no_free_sequence_holds_nothing_up(scheduler):
    for number in range(scheduler.max_num_active_reqs - 1):
        scheduler.add_request(images(f"image {number}", 2))
        step(scheduler)
    scheduler.add_request(images("large", 100))
    assert step(scheduler)[0]["large"] < 102  # half in, in the last sequence
    scheduler.add_request(text("text"))
    taken, _ = step(scheduler)
    assert "text" not in taken
    assert taken["large"] > 1


def test_text_that_never_ends_does_not_starve_media(scheduler):
    scheduler.add_request(images("image", 10))
    for number in range(3):
        scheduler.add_request(text(f"text {number}"))
        assert "image" not in step(scheduler)[0]
    scheduler.add_request(text("text 3"))
    taken, encoded = step(scheduler)
    assert taken["text 3"] == 10
    assert taken["image"] == 12
    assert encoded == {"image": [0]}


def test_a_step_encodes_the_images_of_one_prompt(scheduler):
    scheduler.add_request(images("two", 10, 10))
    scheduler.add_request(images("one", 10))
    assert step(scheduler) == ({"two": 23, "one": 1}, {"two": [0, 1]})  # up to the image
    assert step(scheduler) == ({"two": 1, "one": 11}, {"one": [0]})


def test_without_text_a_prompt_takes_what_a_step_has(scheduler):
    scheduler.add_request(text("text", 50))
    scheduler.add_request(text("next", 50))
    assert step(scheduler) == ({"text": 50, "next": _BUDGET - 50}, {})


@pytest.fixture
def roomy(scheduler):
    """One whose steps have more room than media get beside text."""
    scheduler.max_num_scheduled_tokens = scheduler.scheduler_config.max_num_batched_tokens = 512
    return scheduler


def test_while_text_comes_a_video_goes_in_by_pieces(roomy):
    """A token that is encoded in the step counts thrice."""
    roomy.add_request(text("text"))
    assert step(roomy) == ({"text": 10}, {})
    roomy.add_request(video("video", 5, 5))
    # A second piece would take 50, and the first, which is before it, 25: there are 62 left.
    assert step(roomy) == ({"text": 1, "video": 1 + 25}, {"video": [0]})
    for piece in (1, 2, 3):
        assert step(roomy) == ({"text": 1, "video": 25}, {"video": [piece]})
    assert step(roomy) == ({"text": 1, "video": 25 + 1}, {"video": [4]})


def test_while_text_comes_a_large_image_is_encoded_alone_and_taken_in_by_pieces(roomy):
    roomy.add_request(text("text"))
    step(roomy)
    roomy.add_request(images("image", 300))
    assert step(roomy) == ({"text": 1, "image": 1}, {})  # what is before it
    assert step(roomy) == ({"text": 1, "image": 1}, {"image": [0]})
    roomy.add_request(images("next", 10))
    for _ in range(2):
        assert step(roomy) == ({"text": 1, "image": 112}, {})  # there is room for no other
    assert step(roomy) == ({"text": 1, "image": 302 - 226, "next": 12}, {"next": [0]})


def test_while_text_comes_a_image_waits_for_a_step_that_has_room_for_it(roomy):
    roomy.add_request(text("text"))
    step(roomy)
    roomy.add_request(images("one", 50))
    roomy.add_request(images("next", 30))
    assert step(roomy) == ({"text": 1, "one": 112 - 2 * 50}, {"one": [0]})
    assert step(roomy) == ({"text": 1, "one": 52 - 12, "next": 112 - 40 - 2 * 30}, {"next": [0]})
    roomy.add_request(images("large", 56))
    roomy.add_request(images("last", 10))
    decoding = {"text": 1, "one": 1}
    assert step(roomy) == (decoding | {"next": 20, "large": 1, "last": 12}, {"last": [0]})
    assert step(roomy) == (decoding | {"next": 1, "large": 1, "last": 1}, {"large": [0]})


def test_without_text_media_take_what_a_step_has(roomy, monkeypatch):
    now = 100.0
    monkeypatch.setattr(scheduling.time, "monotonic", lambda: now)
    roomy.add_request(text("text"))
    step(roomy)
    now += 11
    roomy.add_request(video("video", 5, 5))
    roomy.add_request(images("image", 300))
    assert step(roomy) == ({"text": 1, "video": 127, "image": 1}, {"video": [0, 1, 2, 3, 4]})
    assert step(roomy) == ({"text": 1, "video": 1, "image": 301}, {"image": [0]})

"""The processor without an engine: sizes, placeholders, hashes, limits, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media_samples import raster
from PIL import Image
from vllm.config import ModelConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.processing import BaseMultiModalProcessor, ProcessorInputs, TimingContext

from saccade.demo.checkpoints.checkpoint import CheckpointSpec, write_checkpoint
from saccade.media.controls import ImageControls, VideoControls
from saccade.media.items import CachedMedium, DecodedImage, DecodedVideo
from saccade.media.planning.plan import (
    PixelLimits,
    VideoSource,
    VisionGeometry,
    plan_image,
    plan_video,
)
from saccade.model.compat.engine_input import planned_input
from saccade.model.inputs.profiling import largest_image, largest_video

GEOMETRY = VisionGeometry()
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(CheckpointSpec(), tmp_path_factory.mktemp("processor"))


def model_config(checkpoint: Path, **options: Any) -> ModelConfig:
    return EngineArgs(model=str(checkpoint), **options).create_model_config()


def processor_of(checkpoint: Path, **options: Any) -> Any:
    return MULTIMODAL_REGISTRY.create_processor(model_config(checkpoint, **options))


@pytest.fixture(scope="module")
def processor(checkpoint: Path) -> Any:
    return processor_of(checkpoint)


def run(processor: Any, prompt: str, data: dict[str, Any], **kwargs: Any) -> Any:
    items = processor.info.parse_mm_data(data)
    return processor(prompt, mm_items=items, hf_processor_mm_kwargs=kwargs)


def grid(result: Any, modality: str, index: int = 0) -> list[int]:
    return result["mm_kwargs"][modality][index][f"{modality}_grid_thw"].data.tolist()


def inputs_of(processor: Any, prompt: str, data: dict[str, Any], cache: Any) -> ProcessorInputs:
    tokens = processor.info.get_tokenizer().encode(prompt)
    return ProcessorInputs(tokens, processor.info.parse_mm_data(data), cache=cache)


def planned_video(digest: str) -> DecodedVideo:
    plan = plan_video(VideoSource(112, 84, 30, 15.0), VideoControls(fps=1.9), GEOMETRY)
    frames = raster(3, len(plan.frame_indices), plan.height, plan.width)
    return DecodedVideo(frames, plan, digest)


def planned_image(height: int, width: int, digest: str = "a") -> DecodedImage:
    plan = plan_image(width, height, ImageControls(), GEOMETRY, PixelLimits())
    return DecodedImage(raster(1, 1, plan.height, plan.width)[0], plan, digest)


def test_ordinary_image(processor: Any) -> None:
    image = Image.fromarray(raster(1, 1, 300, 500)[0])
    result = run(processor, f"{IMAGE}?", {"image": [image]})
    assert grid(result, "image") == [1, 22, 36]  # 308 x 504
    (place,) = result["mm_placeholders"]["image"]
    assert place.length == 11 * 18
    pixels = result["mm_kwargs"]["image"][0]["pixel_values"].data
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (22 * 36, 588)


def test_ordinary_arrays_of_either_layout_equal_the_image(processor: Any) -> None:
    pixels = raster(2, 1, 140, 196)[0]
    results = [
        run(processor, IMAGE, {"image": [item]})["mm_kwargs"]["image"][0]["pixel_values"].data
        for item in (
            Image.fromarray(pixels),
            pixels,
            np.moveaxis(pixels, -1, 0),
            torch.from_numpy(pixels),
        )
    ]
    for result in results[1:]:
        assert torch.equal(result, results[0])


def test_planned_image_is_not_copied(processor: Any) -> None:
    image = planned_image(280, 420)
    result = run(processor, IMAGE, {"image": [image]})
    pixels = result["mm_kwargs"]["image"][0]["pixel_values"].data
    assert pixels.data_ptr() == image.pixels.ctypes.data
    assert grid(result, "image") == list(image.plan.grid)


def test_planned_media_hash_by_their_digest(processor: Any) -> None:
    hashes = [
        run(processor, IMAGE, {"image": [planned_image(280, 420, digest)]})["mm_hashes"]["image"][0]
        for digest in ("a", "a", "b")
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_planned_video_keeps_its_seconds_in_float64(processor: Any) -> None:
    plan = plan_video(VideoSource(112, 84, 300, 29.97), VideoControls(fps=1.9), GEOMETRY)
    video = DecodedVideo(raster(3, len(plan.frame_indices), plan.height, plan.width), plan, "c")
    result = run(processor, VIDEO, {"video": [video]})
    seconds = result["mm_kwargs"]["video"][0]["second_per_grid_ts"].data
    assert seconds.dtype == torch.float64
    assert seconds.item() == plan.seconds_per_grid
    assert result["mm_placeholders"]["video"][0].length == plan.tokens
    assert result["mm_kwargs"]["video"][0]["pixel_values_videos"].data.shape[1] == 1176


def test_several_of_both_kinds(processor: Any) -> None:
    data = {
        "image": [planned_image(56, 56), planned_image(112, 56)],
        "video": [(raster(4, 4, 56, 84), {"fps": 2.0, "total_num_frames": 4})],
    }
    result = run(processor, f"{IMAGE} {VIDEO} {IMAGE}", data)
    lengths = [place.length for place in result["mm_placeholders"]["image"]]
    assert lengths == [4, 8]
    assert result["mm_placeholders"]["video"][0].length == 2 * 2 * 3


def in_steps(processor: Any, inputs: Any) -> Any:
    """What vLLM's own steps make of the media."""
    return BaseMultiModalProcessor.apply(processor, inputs, TimingContext(enabled=False))


def contents(result: Any) -> Any:
    """All of it but the media's names; tensors as types and lists, none for what is not sent."""
    sent = {
        modality: [
            item
            and {key: (one.field, one.data.dtype, one.data.tolist()) for key, one in item.items()}
            for item in items
        ]
        for modality, items in result["mm_kwargs"].items()
    }
    return result["prompt_token_ids"], sent, result["mm_placeholders"]


def test_planned_media_are_taken_as_in_steps(processor: Any) -> None:
    images = [planned_image(40, 60, "a"), planned_image(90, 60, "b"), planned_image(40, 60, "a")]
    videos = [planned_video("c"), planned_video("d")]
    prompt = f"{VIDEO}a{IMAGE}{IMAGE}b{VIDEO}{IMAGE}c"
    data = {"image": images, "video": videos}
    for some, spelled in (
        (data, prompt),
        ({"image": images[:1]}, IMAGE),
        ({"video": videos[:1]}, VIDEO),
    ):
        inputs = inputs_of(processor, spelled, some, None)
        assert planned_input(inputs, processor._placeholders) is not None
        in_one = processor.apply(inputs, TimingContext(enabled=False))
        assert contents(in_one) == contents(in_steps(processor, inputs))


def test_media_that_the_engine_has_take_the_same_place_in_a_prompt(processor: Any) -> None:
    image = planned_image(280, 420)
    cached = CachedMedium("image", image.plan, image.digest, False, decode=None)
    with_pixels, without = (
        run(processor, f"a{IMAGE}b", {"image": [medium]}) for medium in (image, cached)
    )
    for name in ("prompt_token_ids", "mm_hashes", "mm_placeholders"):
        assert without[name] == with_pixels[name]
    (item,) = without["mm_kwargs"]["image"]
    assert item.medium is cached
    assert not item


@pytest.mark.parametrize("prompt", ["no image", IMAGE * 2, f"{IMAGE}{VIDEO}{IMAGE}"])
def test_prompts_that_do_not_fit_the_media_are_left_to_vllm(processor: Any, prompt: str) -> None:
    inputs = inputs_of(processor, prompt, {"image": [planned_image(40, 60)]}, None)
    assert planned_input(inputs, processor._placeholders) is None


def test_request_limits_apply(processor: Any) -> None:
    image = Image.fromarray(raster(1, 1, 1000, 1000)[0])
    small = run(processor, IMAGE, {"image": [image]}, max_pixels=100 * 28 * 28)
    assert grid(small, "image") == [1, 20, 20]
    scoped = {"size": {"longest_edge": 25 * 28 * 28, "shortest_edge": 3136}}
    scoped_result = run(processor, IMAGE, {"image": [image]}, images_kwargs=scoped)
    assert grid(scoped_result, "image") == [1, 10, 10]


def test_server_limits_apply_to_images_and_to_profiling(checkpoint: Path) -> None:
    limited = processor_of(checkpoint, mm_processor_kwargs={"max_pixels": 64 * 28 * 28})
    image = Image.fromarray(raster(1, 1, 1000, 1000)[0])
    assert grid(run(limited, IMAGE, {"image": [image]}), "image") == [1, 16, 16]
    most = limited.info.get_mm_max_tokens_per_item(4096, {"image": 1, "video": 1})
    assert most["image"] == 64
    assert 4096 - 64 <= most["video"] <= 4096


@pytest.mark.parametrize("max_tokens", [4, 64, 1280, 16384])
@pytest.mark.parametrize("seq_len", [512, 4096, 32768])
def test_dummy_media_cost_what_was_announced(
    checkpoint: Path, max_tokens: int, seq_len: int
) -> None:
    limited = processor_of(checkpoint, mm_processor_kwargs={"max_pixels": max_tokens * 28 * 28})
    most = limited.info.get_mm_max_tokens_per_item(seq_len, {"image": 1, "video": 1})
    for modality, text in (("image", IMAGE), ("video", VIDEO)):
        data = limited.dummy_inputs.get_dummy_mm_data(seq_len, {modality: 1}, {})
        result = run(limited, text, {modality: data[modality]})
        assert result["mm_placeholders"][modality][0].length == most[modality]


def test_largest_media_are_legal() -> None:
    for tokens in range(1, 2000, 7):
        limits = PixelLimits(max_pixels=tokens * 784)
        height, width = largest_image(limits, GEOMETRY)
        assert height * width <= limits.max_pixels
        assert max(height, width) <= 200 * min(height, width)
        frames, height, width = largest_video(5000, limits, GEOMETRY)
        assert frames // 2 * height * width // 784 <= 5000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"image": [raster(1, 1, 56, 56)[0].astype(np.float32)]}, "uint8 pixels, not float32"),
        ({"image": [np.zeros((56, 56, 5), np.uint8)]}, "3 channels"),
        ({"image": [Image.new("RGB", (56, 56 * 300))]}, "aspect ratio"),
        ({"video": [(np.zeros((0, 56, 56, 3), np.uint8), {"fps": 1.0})]}, "no frames"),
        ({"video": [(raster(1, 4, 56, 56), {"frames_indices": [0]})]}, "frames_indices"),
        ({"video": [raster(1, 4, 56, 56)]}, "metadata"),
    ],
)
def test_bad_media_are_named(processor: Any, data: dict[str, Any], message: str) -> None:
    prompt = IMAGE if "image" in data else VIDEO
    with pytest.raises(ValueError, match=message):
        run(processor, prompt, data)


@pytest.mark.parametrize("option", ["nonsense", "fps"])
def test_unknown_options_are_named(processor: Any, option: str) -> None:
    image = Image.fromarray(raster(1, 1, 56, 56)[0])
    with pytest.raises(ValueError, match=option):
        run(processor, IMAGE, {"image": [image]}, images_kwargs={option: 1})

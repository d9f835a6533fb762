"""The plugin in a real engine in float32 against Hugging Face's model, on random weights."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from engine import engine, greedy, next_logits, tower_output
from media_samples import as_url, avi, png, raster
from PIL import Image
from reference import Medium, Reference

from saccade.demo.checkpoints.checkpoint import (
    CheckpointSpec,
    LanguageSpec,
    TowerSpec,
    write_checkpoint,
)
from saccade.demo.checkpoints.tokenizer import VOCABULARY_SIZE

GEOMETRIES = {
    "heads-of-80": CheckpointSpec(
        tower=TowerSpec(depth=4, fullatt_block_indexes=(1, 3)),
        language=LanguageSpec(layers=3),
        dtype="float32",
        seed=1,
    ),
    "heads-of-64-gqa-7": CheckpointSpec(
        tower=TowerSpec(
            depth=3,
            hidden=128,
            heads=2,
            intermediate=340,
            fullatt_block_indexes=(2,),
            window_size=84,
        ),
        language=LanguageSpec(
            layers=2,
            hidden=448,
            heads=7,
            kv_heads=1,
            intermediate=512,
            mrope_section=(8, 12, 12),
            tie_word_embeddings=False,
        ),
        tokens_per_second=4,
        dtype="float32",
        seed=2,
        layout="nested",
    ),
    "tower-of-3b": CheckpointSpec(
        tower=TowerSpec(
            depth=2, hidden=1280, heads=16, intermediate=3420, fullatt_block_indexes=(1,)
        ),
        language=LanguageSpec(layers=1, hidden=2048, heads=16, kv_heads=2, intermediate=1024),
        dtype="float32",
        seed=3,
    ),
}

# (height, width): one window, square, whole windows, ragged windows, very wide, very tall, more
# patches than the MLP works on at once.
SIZES = [
    (56, 56),
    (112, 112),
    (140, 140),
    (224, 224),
    (448, 448),
    (252, 420),
    (308, 196),
    (84, 588),
    (28, 1120),
    (1120, 28),
    (672, 56),
    (364, 476),
    (476, 476),
]
SOURCE_FPS, SOURCE_FRAMES = 29.97, 360
CLIP_RATES = [0.5, 1.0, 2.0, 3.3, 29.97]
STEPS = 32


@dataclass(frozen=True)
class Served:
    llm: Any
    reference: Reference

    def text(self, words: str) -> list[int]:
        return self.llm.get_tokenizer().encode(words)


@pytest.fixture(scope="module", params=GEOMETRIES)
def served(
    starts_engine: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp(request.param)
    write_checkpoint(GEOMETRIES[request.param], folder)
    with engine(folder) as llm:
        yield Served(llm, Reference(folder))


def still(seed: int, size: tuple[int, int]) -> Medium:
    return Medium(raster(seed, 1, *size))


def check(
    served: Served,
    conversations: list[list[list[int] | Medium]],
    prompts: list[dict[str, Any]],
) -> None:
    """Next-token logits within 1e-4 of the largest, and the same greedy tokens over 32 steps.

    Logits after each of our own tokens are compared: as long as all earlier tokens are the same,
    the reference's greedy choice there is its next token.
    """
    ours = next_logits(served.llm, prompts, VOCABULARY_SIZE)
    tokens = greedy(served.llm, prompts, STEPS)
    for index, pieces in enumerate(conversations):
        theirs = served.reference.logits(pieces, tokens[index][:-1])
        assert (ours[index] - theirs[0]).abs().max() < 1e-4 * theirs[0].abs().max(), index
        assert theirs.argmax(-1).tolist() == tokens[index], index


def as_prompt(served: Served, pieces: list[list[int] | Medium]) -> dict[str, Any]:
    """The same conversation in vLLM's ordinary inputs: one placeholder a medium, PIL images."""
    ids: list[int] = []
    images = []
    for piece in pieces:
        if isinstance(piece, Medium):
            ids.append(served.reference.placeholder(piece))
            images.append(Image.fromarray(piece.raster[0]))
        else:
            ids += piece
    return {"prompt_token_ids": ids, "multi_modal_data": {"image": images}}


def test_tower_on_images(served: Served) -> None:
    for seed, size in enumerate(SIZES):
        media = [still(seed, size)]
        ours, theirs = tower_output(served.llm, media), served.reference.tower(media)
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max(), size


def test_tower_on_a_batch(served: Served) -> None:
    media = [still(20 + seed, size) for seed, size in enumerate(SIZES[:8])]
    ours, theirs = tower_output(served.llm, media), served.reference.tower(media)
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_tower_on_videos(served: Served) -> None:
    media = [Medium(raster(3, 6, 140, 84), 1.0), Medium(raster(4, 2, 56, 168), 1.0)]
    ours, theirs = tower_output(served.llm, media), served.reference.tower(media)
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_one_image(served: Served) -> None:
    conversations = [
        [served.text("Look: "), still(seed, size), served.text(" What is this?")]
        for seed, size in enumerate(SIZES)
    ]
    check(served, conversations, [as_prompt(served, pieces) for pieces in conversations])


@pytest.mark.parametrize("count", [2, 5, 8])
def test_images_between_text(served: Served, count: int) -> None:
    pieces: list[list[int] | Medium] = [served.text("Compare")]
    for number in range(count):
        pieces += [still(40 + number, SIZES[number % 8]), served.text(f" image {number}, ")]
    check(served, [pieces], [as_prompt(served, pieces)])


def test_text_only(served: Served) -> None:
    pieces: list[list[int] | Medium] = [served.text("The quick brown fox")]
    check(served, [pieces], [{"prompt_token_ids": pieces[0]}])


@pytest.mark.parametrize("fps", CLIP_RATES)
def test_video_sampled_by_the_plugin(served: Served, fps: float) -> None:
    """Text follows the video, so its positions show the ``max() + 1`` rule too."""
    frames = raster(60, SOURCE_FRAMES, 56, 84)
    count = math.floor(min(max(SOURCE_FRAMES / SOURCE_FPS * fps, 4), SOURCE_FRAMES) / 2) * 2
    chosen = torch.linspace(0, SOURCE_FRAMES - 1, count).round().long().numpy()
    video = Medium(frames[chosen], 2 / (count / SOURCE_FRAMES * SOURCE_FPS))
    pieces: list[list[int] | Medium] = [served.text("Watch "), video, served.text(" and tell.")]
    metadata = {"fps": SOURCE_FPS, "total_num_frames": SOURCE_FRAMES, "do_sample_frames": True}
    prompt = {
        "prompt_token_ids": [*pieces[0], served.reference.placeholder(video), *pieces[2]],
        "multi_modal_data": {"video": [(frames, metadata)]},
        "mm_processor_kwargs": {"fps": fps},
    }
    check(served, [pieces], [prompt])


def test_video_sampled_by_the_caller(served: Served) -> None:
    """An odd number of frames: the last one is repeated."""
    frames = raster(61, 7, 84, 56)
    indices = [0, 10, 20, 30, 40, 50, 60]
    seconds = 2 / (7 / 70 * 25.0)
    video = Medium(np.concatenate([frames, frames[-1:]]), seconds)
    pieces: list[list[int] | Medium] = [video, served.text(" What happens?")]
    metadata = {"fps": 25.0, "total_num_frames": 70, "frames_indices": indices}
    prompt = {
        "prompt_token_ids": [served.reference.placeholder(video), *pieces[1]],
        "multi_modal_data": {"video": [(frames, metadata)]},
    }
    check(served, [pieces], [prompt])


def test_images_and_videos_interleaved(served: Served) -> None:
    first, second = still(70, (84, 112)), still(71, (140, 56))
    videos = [Medium(raster(72, 4, 56, 56), 1.0), Medium(raster(73, 6, 84, 56), 0.4)]
    pieces: list[list[int] | Medium] = [
        served.text("A"), videos[0], served.text("B"), first, videos[1], served.text("C"), second,
        served.text("D"),
    ]  # fmt: skip
    ids: list[int] = []
    for piece in pieces:
        ids += [served.reference.placeholder(piece)] if isinstance(piece, Medium) else piece
    metadata = [{"fps": 2.0, "total_num_frames": 4}, {"fps": 5.0, "total_num_frames": 6}]
    prompt = {
        "prompt_token_ids": ids,
        "multi_modal_data": {
            "image": [Image.fromarray(medium.raster[0]) for medium in (first, second)],
            "video": [(video.raster, data) for video, data in zip(videos, metadata, strict=True)],
        },
    }
    check(served, [pieces], [prompt])


def test_a_second_time_from_the_caches(served: Served) -> None:
    """Prefix cache, processor cache and encoder cache are warm: the answer is the same."""
    pieces = [served.text("Again: "), still(1, SIZES[1]), served.text(" What is this?")]
    prompts = [as_prompt(served, pieces)]
    first = greedy(served.llm, prompts, STEPS)
    assert greedy(served.llm, prompts, STEPS) == first
    check(served, [pieces], prompts)


def test_chat_with_media_that_vllm_loads(served: Served) -> None:
    """Plain vLLM's chat: the plugin gets what vLLM's own connector decoded.

    vLLM hands over a short video whole and marks it as still to be sampled: 2 frames a second.
    """
    from vllm import SamplingParams

    image = still(80, (140, 84))
    frames = raster(81, 8, 112, 140)  # at 4 frames a second
    video = Medium(frames[[0, 2, 5, 7]], 1.0)
    content = [
        {"type": "image_url", "image_url": {"url": as_url(png(image.raster[0]), "image/png")}},
        {"type": "video_url", "video_url": {"url": as_url(avi(frames, 4), "video/avi")}},
        {"type": "text", "text": "Describe both."},
    ]
    messages = [{"role": "user", "content": content}]
    sampling = SamplingParams(temperature=0, max_tokens=STEPS, ignore_eos=True)
    (output,) = served.llm.chat(messages, sampling, use_tqdm=False)
    tokens = list(output.outputs[0].token_ids)
    ids = list(output.prompt_token_ids)
    pieces: list[list[int] | Medium] = []
    for medium in (image, video):
        first = ids.index(served.reference.placeholder(medium))
        pieces += [ids[:first], medium]
        ids = ids[first + medium.tokens :]
    theirs = served.reference.logits([*pieces, ids], tokens[:-1])
    assert theirs.argmax(-1).tolist() == tokens

"""More processes, or prompts in pieces, give the same tokens as one process and whole prompts."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import engine, greedy
from media_samples import raster
from PIL import Image

from saccade.demo.checkpoints.checkpoint import CheckpointSpec, write_checkpoint

WAYS = {
    "chunked prefill": {"max_num_batched_tokens": 32},
    "small pieces": {"scheduler_cls": "saccade.model.cpu.scheduling.TextFirstScheduler"},
    "tensor": {"tensor_parallel_size": 2},
    "tensor, data-parallel tower": {"tensor_parallel_size": 2, "mm_encoder_tp_mode": "data"},
    # Stages exchange buffers that vLLM's CPU worker only makes when it warms up a traced model.
    "pipeline": {
        "pipeline_parallel_size": 2,
        "enforce_eager": False,
        "compilation_config": {"mode": 2, "backend": "eager"},
    },
}


def prompts() -> list[dict[str, Any]]:
    """Text, one image, three images of different sizes, a video, and a video with an image."""
    images = [
        Image.fromarray(raster(seed, 1, *size)[0])
        for seed, size in enumerate([(140, 196), (56, 112), (224, 84)])
    ]
    # 84 tokens: more than a step takes in by small pieces.
    frames = (raster(5, 14, 84, 112), {"fps": 3.0, "total_num_frames": 14})
    image, video = (f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("image", "video"))
    return [
        {"prompt": "The quick brown fox"},
        {"prompt": f"{image}What is this?", "multi_modal_data": {"image": images[:1]}},
        {"prompt": f"{image} {image}{image} Compare.", "multi_modal_data": {"image": images}},
        {"prompt": f"{video}What happens?", "multi_modal_data": {"video": [frames]}},
        {
            "prompt": f"{video} or {image}?",
            "multi_modal_data": {"image": images[1:2], "video": [frames]},
        },
    ]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(CheckpointSpec(dtype="float32"), tmp_path_factory.mktemp("execution"))


@pytest.fixture(scope="module")
def plain_tokens(starts_engine: None, checkpoint: Path) -> list[list[int]]:
    with engine(checkpoint) as llm:
        return greedy(llm, prompts(), 24)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One core a worker."""
    cores = sorted(os.sched_getaffinity(0))
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", f"{cores[0]}|{cores[-1]}")
    return


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_same_tokens(
    checkpoint: Path, plain_tokens: list[list[int]], options: dict[str, Any]
) -> None:
    with engine(checkpoint, **options) as llm:
        assert greedy(llm, prompts(), 24) == plain_tokens

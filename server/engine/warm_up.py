"""What runs before `/ready` is green: an image, a video, a token with logprobs.

What their first use compiles or loads is there before the first request, and an engine that cannot
encode ends the start instead of a request. Checked on vLLM 0.32.0.
"""

import secrets
import time
from collections.abc import Iterator

import numpy as np
from vllm.config import VllmConfig
from vllm.engine.protocol import EngineClient
from vllm.inputs import TokensPrompt
from vllm.sampling_params import SamplingParams

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.items import DecodedImage, DecodedVideo
from saccade.media.planning.plan import PixelLimits, VisionGeometry, plan_frame_list, plan_image
from saccade.media.types import Pixels

# Sides in merged tokens: several attention windows, the last ones partly filled.
_HEIGHT, _WIDTH = 6, 10
_FRAMES = 4


class WarmUpFailed(Exception):
    """The engine cannot do what requests will ask of it; one line: what failed, and why."""


async def warm_up(client: EngineClient, geometry: VisionGeometry) -> None:
    """Runs each prompt of `warm_up_prompts` on every data-parallel engine, one after another.

    Raises:
        WarmUpFailed: an engine could not run one of them, or died.
    """
    parallel = client.vllm_config.parallel_config
    ranks: list[int | None] = [None]
    if parallel.data_parallel_size > 1:
        local = parallel.local_engines_only
        ranks = [
            *range(parallel.data_parallel_size_local if local else parallel.data_parallel_size)
        ]
    for name, prompt in warm_up_prompts(client.vllm_config, geometry):
        for rank in ranks:
            try:
                await _generate_one(client, prompt, rank)
            except Exception as error:
                raise WarmUpFailed(f"warm-up with {name} failed: {error}") from error


def warm_up_prompts(
    config: VllmConfig, geometry: VisionGeometry
) -> Iterator[tuple[str, TokensPrompt]]:
    """What each is called, and the prompt: of what this engine takes, by its flags and its role.

    What is longer than ``--max-model-len`` is left out, and media of a modality that is limited to
    0, and all media where encoder outputs are shared between engines: what is encoded here would
    stay in what they share.
    """
    model = config.model_config
    if not config.is_mm_encoder_only and model.max_model_len > 1:  # a prompt and an answer
        yield "text", TokensPrompt(prompt_token_ids=[0])
    if config.ec_transfer_config is not None:
        return
    media = model.get_multimodal_config()
    for modality, token, medium in (
        ("image", model.hf_config.image_token_id, _image(geometry)),
        ("video", model.hf_config.video_token_id, _video(geometry)),
    ):
        fits = medium.plan.tokens < model.max_model_len
        if media.get_limit_per_prompt(modality) > 0 and fits:
            prompt = TokensPrompt(prompt_token_ids=[token], multi_modal_data={modality: [medium]})
            yield f"{'an' if modality == 'image' else 'a'} {modality}", prompt


def warm_up_parameters(config: VllmConfig) -> SamplingParams:
    """One token, with logprobs unless ``--max-logprobs 0`` forbids them."""
    logprobs = 1 if config.model_config.max_logprobs else None
    return SamplingParams(max_tokens=1, logprobs=logprobs, ignore_eos=True)


async def _generate_one(client: EngineClient, prompt: TokensPrompt, rank: int | None) -> None:
    """One token, by the way of a request whose template has been applied."""
    parameters = warm_up_parameters(client.vllm_config)
    inputs = client.renderer.process_for_engine(prompt, time.time())
    async for _ in client.generate(inputs, parameters, "warm-up", data_parallel_rank=rank):
        pass


def _image(geometry: VisionGeometry) -> DecodedImage:
    height, width = _HEIGHT * geometry.factor, _WIDTH * geometry.factor
    controls = ImageControls(resized_height=height, resized_width=width)
    plan = plan_image(width, height, controls, geometry, PixelLimits())
    return DecodedImage(_noise(1, height, width)[0], plan, _new_digest())


def _video(geometry: VisionGeometry) -> DecodedVideo:
    height, width = _HEIGHT * geometry.factor, _WIDTH * geometry.factor
    controls = VideoControls(resized_height=height, resized_width=width)
    plan = plan_frame_list([(width, height)] * _FRAMES, controls, geometry)
    return DecodedVideo(_noise(_FRAMES, height, width), plan, _new_digest())


def _noise(frames: int, height: int, width: int) -> Pixels:
    return np.random.default_rng(0).integers(256, size=(frames, height, width, 3), dtype=np.uint8)


def _new_digest() -> str:
    # In no cache, or nothing would be encoded: several API processes share the engine's.
    return secrets.token_hex(16)

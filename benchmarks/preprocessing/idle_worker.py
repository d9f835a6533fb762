"""A worker that computes nothing, so that a served front end is what a benchmark measures.

The engine is vLLM's own: it takes a request's media in, schedules it, and sends an answer back. An
answer of one token says nothing. The tokens of a longer one are digits of the digest of the pixels
that came, which are kept in a file of that name. Started by ``--worker-cls``.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from blake3 import blake3
from transformers import AutoTokenizer
from vllm.config import set_current_vllm_config
from vllm.multimodal.inputs import MultiModalFeatureSpec
from vllm.v1.core.sched.output import NewRequestData, SchedulerOutput
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.worker.worker_base import CompilationTimes, WorkerBase

from saccade.demo.training.batch import patchify

WORKER = f"{__name__}.IdleWorker"
PIXELS = "SACCADE_BENCH_PIXELS"
"""The variable that names the folder of pixels."""
DIGITS = 16
"""Tokens of an answer that names them."""
_PATCH = 14  # pixels
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # of the bundled checkpoint
_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


class IdleWorker(WorkerBase):
    """Answers every request, at once and without a model."""

    _digits: list[int]  # the tokens 0 to 9
    _asked: dict[str, tuple[int, list[int]]]  # by request: tokens of its prompt, of its answer

    def init_device(self) -> None:
        self.device = torch.device("cpu")
        self._asked = {}

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        tokenizer = AutoTokenizer.from_pretrained(self.model_config.tokenizer)
        self._digits = tokenizer.convert_tokens_to_ids([str(digit) for digit in range(10)])

    def get_kv_cache_spec(self) -> dict[str, KVCacheSpec]:
        spec = FullAttentionSpec(
            block_size=self.cache_config.block_size,
            num_kv_heads=1,
            head_size=64,
            dtype=torch.bfloat16,
        )
        return {"layer": spec}

    def get_supported_kv_cache_layouts(self) -> list[str]:
        with set_current_vllm_config(self.vllm_config):
            return super().get_supported_kv_cache_layouts()

    def determine_available_memory(self) -> int:
        """Bytes of the KV cache, none of which is ever taken."""
        return 4 * 2**30

    def initialize_from_config(self, kv_cache_config: Any) -> None:
        """There is no KV cache."""

    def compile_or_warm_up_model(self) -> CompilationTimes:
        return CompilationTimes(language_model=0.0, encoder=0.0)

    def get_supported_tasks(self) -> tuple[str, ...]:
        """Of the model."""
        return ("generate",)

    def reset_encoder_cache(self) -> None:
        """There is none."""

    def execute_model(self, scheduler_output: SchedulerOutput) -> ModelRunnerOutput:
        for finished in scheduler_output.finished_req_ids:
            self._asked.pop(finished, None)
        computed = {}
        for new in scheduler_output.scheduled_new_reqs:
            self._asked[new.req_id] = (new.prompt_len, self._answer(new))
            computed[new.req_id] = new.num_computed_tokens
        again = scheduler_output.scheduled_cached_reqs
        computed |= dict(zip(again.req_ids, again.num_computed_tokens, strict=True))
        sampled = []
        for name, before in computed.items():
            prompt, answer = self._asked[name]
            place = before + scheduler_output.num_scheduled_tokens[name] - prompt
            sampled.append([answer[place % len(answer)]] if place >= 0 else [])
        index = {name: place for place, name in enumerate(computed)}
        return ModelRunnerOutput([*computed], index, sampled_token_ids=sampled)

    def _answer(self, new: NewRequestData) -> list[int]:
        assert new.sampling_params is not None
        if new.sampling_params.max_tokens == 1:  # nobody looks at it
            return [self._digits[0]]
        pixels = np.concatenate([_patches(feature) for feature in new.mm_features])
        digits = [byte % 10 for byte in blake3(pixels.data).digest()[:DIGITS]]
        np.save(Path(os.environ[PIXELS]) / "".join(map(str, digits)), pixels)
        return [self._digits[digit] for digit in digits]


def _patches(feature: MultiModalFeatureSpec) -> npt.NDArray[np.uint8]:
    """The pixels [patches, 1176] of an image or video, in the order of stock vLLM's."""
    if feature.data is None:
        raise ValueError("the medium is not there: its tokens are in the prefix cache")
    data = {name: element.data for name, element in feature.data.items()}
    (name,) = [name for name in data if name.startswith("pixel_values")]
    _, height, width = (int(side) for side in data[f"{feature.modality}_grid_thw"].flatten())
    pixels = data[name]
    if pixels.dtype == torch.uint8:
        if pixels.shape[-1] == 2 * 3 * _PATCH**2:
            return pixels.numpy()
        return patchify(pixels.numpy().reshape(-1, height * _PATCH, width * _PATCH, 3))
    channels = pixels.float().numpy().reshape(len(pixels), 3, -1)
    levels = 255 * (channels * _STD[:, None] + _MEAN[:, None])
    return np.rint(levels).astype(np.uint8).reshape(len(pixels), -1)

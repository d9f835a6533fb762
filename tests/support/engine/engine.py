"""A real vLLM engine on a checkpoint, for tests that look at tokens, logits and the tower."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import torch
from reference import Medium

ENVIRONMENT = {
    # The tower is called inside the worker process; functions travel there by name.
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


@contextmanager
def engine(checkpoint: Path, **options: Any) -> Iterator[Any]:
    """``vllm.LLM`` on ``checkpoint``, stopped afterwards with all of its processes."""
    from vllm import LLM

    defaults = {
        "dtype": "float32",
        "enforce_eager": True,
        "max_model_len": 4096,
        "max_num_batched_tokens": 4096,
        "max_num_seqs": 16,
        "seed": 0,
        "limit_mm_per_prompt": {"image": 8, "video": 4},
        "mm_processor_kwargs": {"max_pixels": 1024 * 28 * 28},
        "max_logprobs": -1,
        "logprobs_mode": "raw_logits",
    }
    with patch.dict(os.environ, ENVIRONMENT):
        llm = LLM(model=str(checkpoint), **(defaults | options))
        try:
            yield llm
        finally:
            # vLLM ends what is left of its processes, and minds if one ends by itself meanwhile.
            with suppress(psutil.NoSuchProcess):
                llm.llm_engine.engine_core.shutdown()


def run_tower(model: Any, rasters: list[torch.Tensor], grids: list[list[int]]) -> torch.Tensor:
    """Runs in the worker: the tower's output for media of one kind."""
    rows = [raster.view(t * h * w, -1) for raster, (t, h, w) in zip(rasters, grids, strict=True)]
    with torch.inference_mode():
        return model.visual(torch.cat(rows), grids).float().cpu()


def tower_output(llm: Any, media: Sequence[Medium]) -> torch.Tensor:
    """``[merged tokens, hidden]`` of media of one kind, from the engine's own tower."""
    from functools import partial

    call = partial(
        run_tower,
        rasters=[torch.from_numpy(medium.raster) for medium in media],
        grids=[list(medium.grid) for medium in media],
    )
    return llm.apply_model(call)[0]


def greedy(llm: Any, prompts: list[dict[str, Any]], tokens: int, **options: Any) -> list[list[int]]:
    """Greedy continuations of exactly ``tokens`` tokens."""
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
    outputs = llm.generate(prompts, sampling, use_tqdm=False, **options)
    return [list(output.outputs[0].token_ids) for output in outputs]


def next_logits(llm: Any, prompts: list[dict[str, Any]], vocabulary: int) -> torch.Tensor:
    """``[prompts, vocabulary]`` logits of the first generated token."""
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0, max_tokens=1, logprobs=-1, ignore_eos=True)
    logits = torch.full((len(prompts), vocabulary), float("nan"))
    for row, output in enumerate(llm.generate(prompts, sampling, use_tqdm=False)):
        for token, entry in output.outputs[0].logprobs[0].items():
            logits[row, token] = entry.logprob
    return logits

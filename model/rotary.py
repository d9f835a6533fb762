"""The language model's rotary layer: vLLM's own, with our kernel where it runs.

`replaced_layers` puts it in place of vLLM's.
"""

import os
from typing import Any

import torch
from vllm.model_executor.layers.rotary_embedding.mrope import MRotaryEmbedding
from vllm.platforms import current_platform

from saccade.kernels.dispatch import KERNELS_ENV
from saccade.kernels.operations import mrope
from saccade.kernels.self_test import proof
from saccade.model.cpu.layers import compiled_operation


class OneLaunchMRotaryEmbedding(MRotaryEmbedding):
    """Gathers angles, sections and rotates in one launch, in place.

    vLLM calls it where custom operations are on: always in eager mode. Where Inductor compiles
    the language model it fuses vLLM's own as well, and this layer stays out of its way.
    """

    name = "MRotaryEmbedding"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # What vLLM's own gives way to: on a GPU our kernel unless it has failed its self-test, on a
        # CPU the compiled operation, on either the backend that is asked for by name.
        if current_platform.is_cpu():
            self.vllms_own, there = super().forward_cpu, compiled_operation("mrope") is not None
        else:
            self.vllms_own, there = super().forward_cuda, not proof.out_of_use("triton", "mrope")
        asked_for = os.environ.get(KERNELS_ENV, "auto") in ("triton", "reference")
        fits = self.rotary_dim == self.head_size and self.is_neox_style
        self.gives_way = fits and (asked_for or there)

    def forward_cuda(
        self,
        positions: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor | None = None,
        offsets: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """``query`` and ``key`` ``[tokens, heads * head_dim]``, positions ``[3, tokens]``."""
        if not self.gives_way or key is None or positions.ndim != 2:
            return self.vllms_own(positions, query, key, offsets)
        # Private in vLLM: the cache in the dtype of the queries. A public name would do instead.
        cache = self._match_cos_sin_cache_dtype(query)
        mrope(
            query, key, positions, cache, self.head_size, self.mrope_section, self.mrope_interleaved
        )
        return query, key

    forward_hip = forward_cpu = forward_cuda

"""The language model's rotary layer: vLLM's own, with our kernel where it runs.

`replaced_layers` puts it in place of vLLM's.
"""

import os
from typing import Any

import torch
from vllm.model_executor.layers.rotary_embedding.mrope import MRotaryEmbedding

from saccade.kernels.dispatch import SWITCH
from saccade.kernels.mrope import mrope
from saccade.kernels.self_test import proof
from saccade.model.cpu.layers import compiled_operation


class OneLaunchMRotaryEmbedding(MRotaryEmbedding):
    """Gathers angles, sections and rotates in one launch, in place.

    vLLM calls it where custom operations are on: always in eager mode. Where Inductor compiles
    the language model it fuses vLLM's own form as well, and this layer stays out of its way.
    """

    name = "MRotaryEmbedding"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked_for = os.environ.get(SWITCH, "auto") in ("triton", "reference")
        self.compiled = compiled_operation("mrope")

    def forward_cuda(
        self,
        positions: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor | None = None,
        offsets: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """``query`` and ``key`` ``[tokens, heads * head_dim]``, positions ``[3, tokens]``."""
        if key is None or not self._fits(positions) or self._is_out_of_use(query.device.type):
            return super().forward_cuda(positions, query, key, offsets)
        cache = self._match_cos_sin_cache_dtype(query)
        mrope(
            query, key, positions, cache, self.head_size, self.mrope_section, self.mrope_interleaved
        )
        return query, key

    forward_hip = forward_cuda

    def forward_cpu(
        self,
        positions: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor | None = None,
        offsets: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """On a CPU, if our form is compiled there or the switch asks for another of ours."""
        if (self.compiled is not None or self.asked_for) and self._fits(positions):
            return self.forward_cuda(positions, query, key, offsets)
        return self.forward_native(positions, query, key, offsets)

    def _is_out_of_use(self, device_type: str) -> bool:
        """Whether vLLM's own form is the next one: on a GPU, where ours has failed its test."""
        return (
            device_type != "cpu"
            and not self.asked_for
            and proof.out_of_use("triton", "mrope") is not None
        )

    def _fits(self, positions: torch.Tensor) -> bool:
        return positions.ndim == 2 and self.rotary_dim == self.head_size and self.is_neox_style

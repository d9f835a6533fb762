"""Layers between products of matrices, compiled for the CPU: one pass over memory each.

vLLM leaves these to its compiler on a CPU. The tower is not compiled, and nor is a model that is
served with ``--enforce-eager``: there each would be half a dozen passes, with a temporary for
each. `replaced_layers` puts them in place of vLLM's.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.platforms import current_platform

from saccade.kernels.cpu import compiled
from saccade.kernels.dispatch import KERNELS_ENV


def compiled_operation(name: str) -> Callable[..., Any] | None:
    """The compiled operation, for the number format of the model that is being built.

    None where there is none, where it is wrong, where another backend is asked for, and on a GPU.
    """
    if not current_platform.is_cpu():
        return None
    if os.environ.get(KERNELS_ENV, "auto") not in ("auto", "cpu"):
        return None
    return compiled.operation(name, torch.get_default_dtype())


class OnePassRMSNorm(RMSNorm):
    """RMSNorm in one pass, with the sum of the residual stream."""

    name = "RMSNorm"  # of the layer that it replaces, also for vLLM's option custom_ops

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        plain = self.has_weight and self.variance_size_override is None
        self.norm = compiled_operation("rms_norm") if plain else None
        self.add_and_norm = compiled_operation("add_rms_norm") if plain else None

    def forward_cpu(
        self, x: torch.Tensor, residual: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """``x`` ``[..., hidden]``; with ``residual`` both are overwritten and returned."""
        if residual is None:
            if self.norm is None:
                return self.forward_native(x)
            return self.norm(x.contiguous(), self.weight, self.variance_epsilon)
        if self.add_and_norm is None:
            return self.forward_native(x, residual)
        x = x.contiguous()
        self.add_and_norm(x, residual, self.weight, self.variance_epsilon)
        return x, residual


class OnePassSiluAndMul(SiluAndMul):
    """The gate of an MLP in one pass."""

    name = "SiluAndMul"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gate = compiled_operation("silu_and_mul")

    def forward_cpu(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., 2 * size]`` (gates, then values) to ``[..., size]``."""
        if self.gate is None:
            return self.forward_native(x)
        return self.gate(x.contiguous())

"""Layers between products of matrices, compiled for the CPU: one pass over memory each.

vLLM leaves these to its compiler on a CPU. The tower is not compiled, and nor is a model that is
served with ``--enforce-eager``: there each would be half a dozen passes, with a temporary for
each. Importing this module puts them in place of vLLM's for this process.
"""

import os
from typing import Any

import torch
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm

from saccade.kernels import cpu_extension
from saccade.kernels.dispatch import SWITCH


def compiled_operations() -> Any:
    """The compiled operations; None where there are none, or another form is asked for."""
    if os.environ.get(SWITCH, "auto") not in ("auto", "cpu"):
        return None
    return cpu_extension.load().operations


@RMSNorm.register_oot
class OnePassRMSNorm(RMSNorm):
    """RMSNorm in one pass, with the sum of the residual stream."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        plain = self.has_weight and self.variance_size_override is None
        self.compiled = compiled_operations() if plain else None

    def forward_cpu(
        self, x: torch.Tensor, residual: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """``x`` ``[..., hidden]``; with ``residual`` both are overwritten and returned."""
        if self.compiled is None:
            return self.forward_native(x, residual)
        x = x.contiguous()
        if residual is None:
            return self.compiled.rms_norm(x, self.weight, self.variance_epsilon)
        self.compiled.add_rms_norm(x, residual, self.weight, self.variance_epsilon)
        return x, residual


@SiluAndMul.register_oot
class OnePassSiluAndMul(SiluAndMul):
    """The gate of an MLP in one pass."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.compiled = compiled_operations()

    def forward_cpu(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., 2 * size]`` (gates, then values) to ``[..., size]``."""
        if self.compiled is None:
            return self.forward_native(x)
        return self.compiled.silu_and_mul(x.contiguous())

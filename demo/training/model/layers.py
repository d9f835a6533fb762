"""What the tower and the language model of the training model have in common."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

_EPSILON = 1e-6


class Norm(nn.Module):
    """Root-mean-square norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, hidden: Tensor) -> Tensor:
        # Written out: compiled, this is fused with its neighbours.
        wide = hidden.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + _EPSILON)
        return wide * scale * self.weight


class GatedMLP(nn.Module):
    """SwiGLU."""

    def __init__(self, hidden: int, intermediate: int, bias: bool) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, intermediate, bias=bias)
        self.up_proj = nn.Linear(hidden, intermediate, bias=bias)
        self.down_proj = nn.Linear(intermediate, hidden, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        gate = functional.silu(self.gate_proj(hidden))
        return cast(Tensor, self.down_proj(gate * self.up_proj(hidden)))


def rotate(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding of ``[..., heads, head_dim]`` by angles ``[..., 1, head_dim / 2]``."""
    first, second = states.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


@lru_cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)


class Layer(nn.Module):
    """A transformer layer: what comes before its attention, and what after, fused if `fast`."""

    fast = False

    def fused(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, compiled if this layer is to be fast."""
        return _compiled(function) if self.fast else function

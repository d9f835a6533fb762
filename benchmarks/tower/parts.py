"""Parts of a vision tower, taken out of it to be looked at or measured alone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Call:
    """What a tower gave an attention layer."""

    x: torch.Tensor
    more: tuple[Any, ...]
    named: Mapping[str, Any]


class LinearLayers:
    """The matrix products of our tower and nothing else."""

    def __init__(self, tower: Any, patches: int) -> None:
        def numbers(rows: int, columns: int) -> torch.Tensor:
            return torch.randn(rows, columns).to(tower.device, tower.dtype)

        mlp, merger = tower.blocks[0].mlp, tower.merger.mlp
        self.tower = tower
        self.pixels = numbers(patches, tower.patch_embed.still_width)
        self.x = numbers(patches, mlp.gate_up_proj.input_size)
        self.gated = numbers(patches, mlp.down_proj.input_size)
        self.units = numbers(patches // tower.merger.unit, merger[0].input_size)

    def __call__(self) -> None:
        self.tower.patch_embed(self.pixels)
        for block in self.tower.blocks:
            block.attn.qkv(self.x)
            block.attn.proj(self.x)
            block.mlp.gate_up_proj(self.x)
            block.mlp.down_proj(self.gated)
        self.tower.merger.mlp[0](self.units)
        self.tower.merger.mlp[2](self.units)


class _Through(nn.Module):
    """In place of a linear layer: gives back what it got."""

    def __init__(self, with_bias: bool) -> None:
        super().__init__()
        self.with_bias = with_bias

    def forward(self, x: torch.Tensor) -> Any:
        return (x, None) if self.with_bias else x


@contextmanager
def unprojected(attention: Any, with_bias: bool) -> Iterator[None]:
    """The layer without its projections; ``with_bias`` if they return a pair."""
    qkv, proj = attention.qkv, attention.proj
    attention.qkv = attention.proj = _Through(with_bias)
    try:
        yield
    finally:
        attention.qkv, attention.proj = qkv, proj


@contextmanager
def first_layers(tower: Any, count: int) -> Iterator[None]:
    """The tower cut off."""
    every = tower.blocks
    tower.blocks = every[:count]
    try:
        yield
    finally:
        tower.blocks = every


@contextmanager
def attention_calls(tower: Any, places: Mapping[str, int]) -> Iterator[dict[int, Call]]:
    """Filled with what these layers get when the tower runs."""
    calls: dict[int, Call] = {}

    def hook(layer: int) -> Callable[..., None]:
        def record(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            calls[layer] = Call(given[0], given[1:], named)

        return record

    with ExitStack() as stack:
        for layer in places.values():
            attention = tower.blocks[layer].attn
            handle = attention.register_forward_pre_hook(hook(layer), with_kwargs=True)
            stack.callback(handle.remove)
        yield calls

"""Multimodal rotary embedding in float64, written out from its definition."""

from collections.abc import Sequence

import torch


def pair_axes(sections: Sequence[int], interleaved: bool) -> list[int]:
    """Which of time, row and column each pair turns with."""
    time, row, column = sections
    if not interleaved:
        return [0] * time + [1] * row + [2] * column
    axes = [0] * sum(sections)
    axes[1 : 3 * row : 3] = [1] * len(axes[1 : 3 * row : 3])
    axes[2 : 3 * column : 3] = [2] * len(axes[2 : 3 * column : 3])
    return axes


def rotate_exactly(
    x: torch.Tensor,
    positions: torch.Tensor,
    cache: torch.Tensor,
    sections: Sequence[int],
    interleaved: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What ``x`` becomes, and the sum of the two products' magnitudes: both float64, as ``x``.

    Args:
        x: ``[tokens, heads * head_dim]``.
        positions: ``[3, tokens]``.
        cache: ``[positions, head_dim]``.
    """
    half = cache.shape[1] // 2
    turned = x.double().unflatten(1, (-1, 2 * half))
    sizes = torch.empty_like(turned)
    for pair, axis in enumerate(pair_axes(sections, interleaved)):
        cos = cache[positions[axis], pair].double()[:, None]
        sin = cache[positions[axis], pair + half].double()[:, None]
        first, second = turned[..., pair].clone(), turned[..., pair + half].clone()
        turned[..., pair] = first * cos - second * sin
        turned[..., pair + half] = second * cos + first * sin
        sizes[..., pair] = (first * cos).abs() + (second * sin).abs()
        sizes[..., pair + half] = (second * cos).abs() + (first * sin).abs()
    return turned.flatten(1), sizes.flatten(1)

"""What PyTorch itself, and flash-attn where that is installed, make of each operation.

Rotations and pointwise operations are compiled by `torch.compile`, so that nothing is compared with
a chain of launches that nobody would run; where the kit runs without a GPU they are only traced.
"""

import importlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from ..cases.case import Contender
from ..cases.truth import pair_axes, rotate
from ..environment import is_interpreted

_BACKENDS = {
    "flash": "FLASH_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "math": "MATH",
}


def compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """By Inductor on a GPU. Elsewhere traced only, which runs the same Python; and not even that
    where kernels are interpreted, to save the seconds."""
    if is_interpreted():
        return function
    backend = "inductor" if device.type == "cuda" else "eager"
    return torch.compile(function, backend=backend, dynamic=False)


# -- Attention -----------------------------------------------------------------------------------


def attention(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cu_seqlens: Sequence[int]
) -> list[Contender]:
    """Every back end of SDPA on segments batched by length, and attention that takes cu_seqlens.

    Args:
        qkv: ``[tokens, 3, heads, head_dim]``; ``cos`` and ``sin`` float32.
        cu_seqlens: Cumulative tokens from 0 on.
    """
    taken = (qkv, cos, sin, cu_seqlens)
    contenders = []
    if find_spec("flash_attn") is not None:
        contenders.append(Contender("flash-attn", partial(_flash_attn, *taken)))
    if find_spec("torch.nn.attention.varlen") is not None:
        contenders.append(Contender("PyTorch varlen_attn", partial(_varlen_attn, *taken)))
    return contenders + [
        Contender(f"PyTorch SDPA {name}", partial(_sdpa, member, *taken))
        for name, member in _BACKENDS.items()
        if hasattr(SDPBackend, member)
    ]


def _rotated(qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotated queries and keys in the format: ``[tokens, 2, heads, head_dim]``."""
    return rotate(qkv[:, :2], cos, sin).to(qkv.dtype)


def _sdpa(
    member: str, qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cu_seqlens: Sequence[int]
) -> Callable[[], torch.Tensor]:
    """Segments of one length make a batch. Where all have one length nothing is gathered."""
    groups: dict[int, list[int]] = defaultdict(list)
    for start, end in pairwise(cu_seqlens):
        if end > start:
            groups[end - start].append(start)
    rows = {
        length: (torch.tensor(starts)[:, None] + torch.arange(length)).flatten().to(qkv.device)
        for length, starts in groups.items()
    }
    rotate_all = compiled(_rotated, qkv.device)

    def attend(batch: torch.Tensor, value: torch.Tensor, length: int) -> torch.Tensor:
        # [segments, heads, length, head_dim]
        query, key, values = (
            part.reshape(-1, length, *part.shape[1:]).transpose(1, 2)
            for part in (*batch.unbind(1), value)
        )
        found = scaled_dot_product_attention(query, key, values)
        return found.transpose(1, 2).flatten(0, 1)

    def call() -> torch.Tensor:
        rotated, value = rotate_all(qkv, cos, sin), qkv[:, 2]
        with sdpa_kernel(getattr(SDPBackend, member)):
            if len(rows) == 1:
                return attend(rotated, value, next(iter(rows))).flatten(1)
            context = torch.empty_like(value)
            for length, places in rows.items():
                context[places] = attend(rotated[places], value[places], length)
        return context.flatten(1)

    return call


def _varlen_attn(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cu_seqlens: Sequence[int]
) -> Callable[[], torch.Tensor]:
    from torch.nn.attention.varlen import varlen_attn

    return _by_borders(varlen_attn, qkv, cos, sin, cu_seqlens)


def _flash_attn(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cu_seqlens: Sequence[int]
) -> Callable[[], torch.Tensor]:
    run = importlib.import_module("flash_attn").flash_attn_varlen_func
    return _by_borders(run, qkv, cos, sin, cu_seqlens)


def _by_borders(
    run: Callable[..., Any],
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: Sequence[int],
) -> Callable[[], torch.Tensor]:
    """``run(query, key, value, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen)``, its scale by
    default."""
    ends = torch.tensor(cu_seqlens, dtype=torch.int32, device=qkv.device)
    max_seqlen = max(end - start for start, end in pairwise(cu_seqlens))
    rotate_all = compiled(_rotated, qkv.device)

    def call() -> torch.Tensor:
        query, key = rotate_all(qkv, cos, sin).unbind(1)
        context: torch.Tensor = run(query, key, qkv[:, 2], ends, ends, max_seqlen, max_seqlen)
        return context.flatten(1)

    return call


# -- Pointwise operations ------------------------------------------------------------------------


def _both(
    name: str, function: Callable[..., torch.Tensor], *arguments: Any, device: torch.device
) -> list[Contender]:
    """Compiled, and launch by launch."""
    return [
        Contender(
            f"PyTorch {name}, compiled",
            lambda: partial(compiled(function, device), *arguments),
        ),
        Contender(f"PyTorch {name}, eager", lambda: partial(function, *arguments)),
    ]


def mrope(
    query: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor,
    cache: torch.Tensor,
    sections: Sequence[int],
) -> list[Contender]:
    """Queries and keys rotated into new tensors; arguments as of `reference.mrope`."""
    axes = torch.tensor(pair_axes(sections, False), device=query.device)
    pairs = torch.arange(len(axes), device=query.device)
    return _both("rotary", _mrope, query, key, positions, cache, axes, pairs, device=query.device)


def _mrope(
    query: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor,
    cache: torch.Tensor,
    axes: torch.Tensor,
    pairs: torch.Tensor,
) -> torch.Tensor:
    places = positions[axes].T  # [tokens, pairs]
    cos, sin = cache[places, pairs].float(), cache[places, pairs + len(pairs)].float()
    packed = torch.cat((query, key), 1)
    heads = packed.view(len(packed), packed.shape[1] // (2 * len(pairs)), 2 * len(pairs))
    return rotate(heads, cos, sin).to(query.dtype).flatten(1)


def patch_input(
    raster: torch.Tensor, unit_order: torch.Tensor, patch: int, merge: int, dtype: torch.dtype
) -> list[Contender]:
    """A still image ``[height, width, 3]`` to centred patch vectors, ``unit_order`` of its
    units."""
    return _both("permute", _patches, raster, unit_order, patch, merge, dtype, device=raster.device)


def _patches(
    raster: torch.Tensor, unit_order: torch.Tensor, patch: int, merge: int, dtype: torch.dtype
) -> torch.Tensor:
    side = merge * patch
    tiles = raster.view(
        raster.shape[0] // side, merge, patch, raster.shape[1] // side, merge, patch, 3
    )
    # [units, patches of a unit, row, column, channel]
    units = tiles.permute(0, 3, 1, 4, 2, 5, 6).flatten(0, 1).flatten(1, 2)[unit_order]
    return ((units.to(dtype) - 128) * (1 / 128)).view(-1, 3 * patch * patch)


def merge_input(
    x: torch.Tensor, weight: torch.Tensor, eps: float, unit_order: torch.Tensor, unit: int
) -> list[Contender]:
    """Arguments as of `reference.merge_input`."""
    inverse = unit_order.argsort()
    return _both("rms_norm", _normed_units, x, weight, eps, inverse, unit, device=x.device)


def _normed_units(
    x: torch.Tensor, weight: torch.Tensor, eps: float, inverse: torch.Tensor, unit: int
) -> torch.Tensor:
    normed = rms_norm(x, (x.shape[1],), weight, eps)
    return normed.view(-1, unit * x.shape[1])[inverse]


@contextmanager
def forgotten() -> Iterator[None]:
    """What `torch.compile` made in here is dropped: past a few shapes it would give up in silence
    and run eagerly."""
    try:
        yield
    finally:
        torch.compiler.reset()

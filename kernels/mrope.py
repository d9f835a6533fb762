"""Multimodal rotary embedding of the language model's queries and keys: one launch, in place.

Cosines and sines are gathered from the cache by each token's three positions inside the kernel;
nothing of the size ``[3, tokens, head_dim]`` is written on the way. Products and sums are float32.

Exactness. With queries, keys and cache in one 16-bit format the products are exact in float32, so
each result is the exact one rounded to float32 and then to the format, bit for bit. In float32 the
error is at most one rounding of each product and of the sum.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (what Triton compiles has no Python types)

import functools
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from . import dispatch
from .launch.arguments import (
    check_beside,
    check_contiguous,
    check_dtype,
    check_number,
    check_rows,
    check_shape,
)
from .launch.tuning import TYPE_NAMES, Specialisation, mrope_launch

VECTOR = 8  # elements that a lane reads at once: 16 bytes of a 16-bit format
LANES = 32


@triton.jit
def load_angles(
    table, time, row, column, pair,
    half: tl.constexpr, time_pairs: tl.constexpr, row_pairs: tl.constexpr,
    column_pairs: tl.constexpr, interleaved: tl.constexpr,
):  # fmt: skip
    """Cosines or sines of a token, float32 in the shape of ``pair``.

    Args:
        table: The cache, at the first cosine or the first sine of position 0.
        time: Where the row of the token's position in time begins; ``row``, ``column`` alike.
        pair: The pairs wanted.
    """
    places = table + pair
    exists = pair < half
    if interleaved:
        # Neighbours turn with different axes: all three rows are read, in whole vectors.
        of_row = (pair % 3 == 1) & (pair < 3 * row_pairs)
        of_column = (pair % 3 == 2) & (pair < 3 * column_pairs)
        angles = tl.load(places + time, mask=exists, other=0.0)
        angles = tl.where(of_row, tl.load(places + row, mask=exists, other=0.0), angles)
        angles = tl.where(of_column, tl.load(places + column, mask=exists, other=0.0), angles)
    else:
        # The masks let each axis read its own section only. Where sections divide by 8, the
        # compiler sees that no vector of 8 crosses a border, and reads 16 bytes at a time.
        column_start: tl.constexpr = time_pairs + row_pairs
        of_row = (pair >= time_pairs) & (pair < column_start)
        angles = tl.load(places + time, mask=pair < time_pairs, other=0.0)
        angles = tl.load(places + row, mask=of_row, other=angles)
        angles = tl.load(places + column, mask=exists & (pair >= column_start), other=angles)
    return angles.to(tl.float32)


@triton.jit
def rotate_heads(first_head, cos, sin, heads: tl.constexpr, half: tl.constexpr):
    """Rotate the heads of a token in place, as many at a time as ``cos`` has rows.

    Args:
        first_head: Pointer to the first channel of the token's first head.
        cos: float32 ``[heads at a time, pairs]``, every row the same; ``sin`` alike.
    """
    head = tl.arange(0, cos.shape[0])[:, None]
    pair = tl.arange(0, cos.shape[1])[None, :]
    for start in tl.static_range(0, heads, cos.shape[0]):
        exists = (start + head < heads) & (pair < half)
        firsts = first_head + (start + head) * (2 * half) + pair
        seconds = firsts + half
        first = tl.load(firsts, mask=exists, other=0.0).to(tl.float32)
        second = tl.load(seconds, mask=exists, other=0.0).to(tl.float32)
        new_first = (first * cos - second * sin).to(first_head.dtype.element_ty)
        new_second = (second * cos + first * sin).to(first_head.dtype.element_ty)
        tl.store(firsts, new_first, mask=exists)
        tl.store(seconds, new_second, mask=exists)


@triton.jit(do_not_specialize=["position_stride"])
def mrope_kernel(
    query, key, positions, cache, query_stride, key_stride, position_stride,
    heads: tl.constexpr, kv_heads: tl.constexpr, half: tl.constexpr, time_pairs: tl.constexpr,
    row_pairs: tl.constexpr, column_pairs: tl.constexpr, interleaved: tl.constexpr,
    step: tl.constexpr, padded_half: tl.constexpr,
):  # fmt: skip
    """Program (token): all its heads, ``step`` at a time.

    Args:
        query: ``[tokens, heads * 2 * half]``, rows ``query_stride`` apart; ``key`` alike.
        positions: int64 ``[3, tokens]``, rows ``position_stride`` apart.
        cache: ``[positions, 2 * half]``.
        time_pairs: How many pairs turn with time; ``row_pairs``, ``column_pairs`` alike.
        padded_half: The power of two from ``half`` on.
    """
    token = tl.program_id(0).to(tl.int64)
    place = positions + token
    time = tl.load(place) * (2 * half)
    row = tl.load(place + position_stride) * (2 * half)
    column = tl.load(place + 2 * position_stride) * (2 * half)
    # The angles are loaded once for every head of a step, into the lanes that need them: the same
    # addresses, so the same bytes of the cache, and nothing to exchange between lanes.
    pair = tl.arange(0, padded_half)[None, :] + tl.zeros((step, 1), tl.int32)
    cos = load_angles(
        cache, time, row, column, pair, half, time_pairs, row_pairs, column_pairs, interleaved
    )
    sin = load_angles(
        cache + half, time, row, column, pair,
        half, time_pairs, row_pairs, column_pairs, interleaved,
    )  # fmt: skip
    rotate_heads(query + token * query_stride, cos, sin, heads, half)
    rotate_heads(key + token * key_stride, cos, sin, kv_heads, half)


def launch_mrope(
    query: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor,
    cos_sin_cache: torch.Tensor,
    head_dim: int,
    sections: Sequence[int],
    interleaved: bool,
) -> None:
    """`reference.mrope` by Triton; ``cos_sin_cache`` may be of another format than ``query``.

    A position outside the cache is read as it is: nothing here waits for the device to look.

    Raises:
        TypeError: a dtype is another than the kernel knows.
        ValueError: a shape, stride, device or the sections do not fit.
    """
    _check(query, key, positions, cos_sin_cache, head_dim, sections)
    tokens = query.shape[0]
    if tokens == 0:
        return
    heads, kv_heads = query.shape[1] // head_dim, key.shape[1] // head_dim
    constants, options = _configuration(heads, kv_heads, head_dim, tuple(sections), interleaved)
    mrope_kernel[(tokens,)](
        query, key, positions, cos_sin_cache,
        query.stride(0), key.stride(0), positions.stride(0),
        **constants, **options,
    )  # fmt: skip


def specialisations(target: str) -> list[Specialisation]:
    """The shipped forms: bfloat16, heads of 128, whole models and tensor-parallel shares."""
    cases = [
        (heads, kv_heads, sections, interleaved)
        for sections, interleaved in (((16, 24, 24), False), ((24, 20, 20), True))
        for heads, kv_heads in ((16, 2), (28, 4), (64, 8), (8, 1), (14, 2))
    ]
    return [
        _specialisation(heads, kv_heads, 128, sections, interleaved)
        for heads, kv_heads, sections, interleaved in cases
    ]


def _specialisation(
    heads: int, kv_heads: int, head_dim: int, sections: tuple[int, ...], interleaved: bool
) -> Specialisation:
    constants, options = _configuration(heads, kv_heads, head_dim, sections, interleaved)
    number = TYPE_NAMES[torch.bfloat16]
    order = "interleaved" if interleaved else "blocks"
    return Specialisation(
        name=f"mrope {heads}/{kv_heads} heads of {head_dim}, {order}, {number}",
        function=mrope_kernel,
        signature={
            "query": f"*{number}",
            "key": f"*{number}",
            "positions": "*i64",
            "cache": f"*{number}",
            "query_stride": "i32",
            "key_stride": "i32",
            "position_stride": "i32",
        },
        constants=constants,
        divisible=("query", "key", "positions", "cache", "query_stride", "key_stride"),
        options=options,
    )


@functools.cache
def _configuration(
    heads: int, kv_heads: int, head_dim: int, sections: tuple[int, ...], interleaved: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The kernel's constants, and the compiler's options."""
    launch = mrope_launch(heads + kv_heads)
    padded_half = triton.next_power_of_2(head_dim // 2)
    constants = {
        "heads": heads,
        "kv_heads": kv_heads,
        "half": head_dim // 2,
        "time_pairs": sections[0],
        "row_pairs": sections[1],
        "column_pairs": sections[2],
        "interleaved": interleaved,
        # One vector a lane: more heads at a time would only cost registers.
        "step": max(1, launch.warps * LANES * VECTOR // padded_half),
        "padded_half": padded_half,
    }
    return constants, launch.options


def _check(
    query: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor,
    cos_sin_cache: torch.Tensor,
    head_dim: int,
    sections: Sequence[int],
) -> None:
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"head_dim is {head_dim}; it must be even, for the embedding's pairs")
    if len(sections) != 3 or min(sections) < 0 or sum(sections) != head_dim // 2:
        raise ValueError(
            f"sections are {list(sections)}; they must be three and add up to the"
            f" {head_dim // 2} pairs of a head"
        )
    check_number("query", query)
    check_dtype("key", key, [query.dtype])
    check_number("cos_sin_cache", cos_sin_cache)
    check_dtype("positions", positions, [torch.int64])
    check_shape("query", query, "[tokens, heads * head_dim]", (None, None))
    check_shape("key", key, "[tokens, kv_heads * head_dim]", (query.shape[0], None))
    check_shape("positions", positions, "[3, tokens]", (3, query.shape[0]))
    check_shape("cos_sin_cache", cos_sin_cache, "[positions, head_dim]", (None, head_dim))
    for name, tensor in (("query", query), ("key", key)):
        if tensor.shape[1] == 0 or tensor.shape[1] % head_dim:
            raise ValueError(f"{name} has rows of {tensor.shape[1]}: not heads of {head_dim}")
        check_rows(name, tensor)
    check_rows("positions", positions)
    check_contiguous("cos_sin_cache", cos_sin_cache)
    for name, tensor in (
        ("key", key),
        ("positions", positions),
        ("cos_sin_cache", cos_sin_cache),
    ):
        check_beside(name, tensor, "query", query)


@torch.library.custom_op("saccade::mrope", mutates_args=("query", "key"))
def mrope(
    query: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor,
    cos_sin_cache: torch.Tensor,
    head_dim: int,
    sections: Sequence[int],
    interleaved: bool,
) -> None:
    """The registered operation: `reference.mrope` in the form that `dispatch` chooses."""
    run = dispatch.implementation("mrope", query.device.type)
    run(query, key, positions, cos_sin_cache, head_dim, sections, interleaved)


@mrope.register_fake
def _(
    query: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor,
    cos_sin_cache: torch.Tensor,
    head_dim: int,
    sections: Sequence[int],
    interleaved: bool,
) -> None:
    """Nothing is returned: queries and keys keep their shapes."""

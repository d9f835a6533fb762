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

from .launch.checks import (
    check_beside,
    check_contiguous,
    check_dtype,
    check_number,
    check_rows,
    check_shape,
)
from .launch.tuning import mrope_launch

VECTOR = 8  # elements that a lane reads at once: 16 bytes of a 16-bit format
LANES = 32


@triton.jit
def load_angles(
    table_ptr, time, row, column, pair,
    HALF: tl.constexpr, TIME_PAIRS: tl.constexpr, ROW_PAIRS: tl.constexpr,
    COLUMN_PAIRS: tl.constexpr, INTERLEAVED: tl.constexpr,
):  # fmt: skip
    """Cosines or sines of a token, float32 in the shape of ``pair``.

    Args:
        table_ptr: The cache, at the first cosine or the first sine of position 0.
        time: Where the row of the token's position in time begins; ``row``, ``column`` alike.
        pair: The pairs wanted.
    """
    pair_ptr = table_ptr + pair
    exists = pair < HALF
    if INTERLEAVED:
        # Neighbours turn with different axes: all three rows are read, in whole vectors.
        of_row = (pair % 3 == 1) & (pair < 3 * ROW_PAIRS)
        of_column = (pair % 3 == 2) & (pair < 3 * COLUMN_PAIRS)
        angles = tl.load(pair_ptr + time, mask=exists, other=0.0)
        angles = tl.where(of_row, tl.load(pair_ptr + row, mask=exists, other=0.0), angles)
        angles = tl.where(of_column, tl.load(pair_ptr + column, mask=exists, other=0.0), angles)
    else:
        # The masks let each axis read its own section only. Where sections divide by 8, the
        # compiler sees that no vector of 8 crosses a border, and reads 16 bytes at a time.
        COLUMN_START: tl.constexpr = TIME_PAIRS + ROW_PAIRS
        of_row = (pair >= TIME_PAIRS) & (pair < COLUMN_START)
        angles = tl.load(pair_ptr + time, mask=pair < TIME_PAIRS, other=0.0)
        angles = tl.load(pair_ptr + row, mask=of_row, other=angles)
        angles = tl.load(pair_ptr + column, mask=exists & (pair >= COLUMN_START), other=angles)
    return angles.to(tl.float32)


@triton.jit
def rotate_heads(head_ptr, cos, sin, HEADS: tl.constexpr, HALF: tl.constexpr):
    """Rotate the heads of a token in place, as many at a time as ``cos`` has rows.

    Args:
        head_ptr: Pointer to the first channel of the token's first head.
        cos: float32 ``[HEADS at a time, pairs]``, every row the same; ``sin`` alike.
    """
    head = tl.arange(0, cos.shape[0])[:, None]
    pair = tl.arange(0, cos.shape[1])[None, :]
    for start in tl.static_range(0, HEADS, cos.shape[0]):
        exists = (start + head < HEADS) & (pair < HALF)
        first_ptr = head_ptr + (start + head) * (2 * HALF) + pair
        second_ptr = first_ptr + HALF
        first = tl.load(first_ptr, mask=exists, other=0.0).to(tl.float32)
        second = tl.load(second_ptr, mask=exists, other=0.0).to(tl.float32)
        new_first = (first * cos - second * sin).to(head_ptr.dtype.element_ty)
        new_second = (second * cos + first * sin).to(head_ptr.dtype.element_ty)
        tl.store(first_ptr, new_first, mask=exists)
        tl.store(second_ptr, new_second, mask=exists)


@triton.jit(do_not_specialize=["position_stride"])
def mrope_kernel(
    query_ptr, key_ptr, positions_ptr, cache_ptr, query_stride, key_stride, position_stride,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HALF: tl.constexpr, TIME_PAIRS: tl.constexpr,
    ROW_PAIRS: tl.constexpr, COLUMN_PAIRS: tl.constexpr, INTERLEAVED: tl.constexpr,
    STEP: tl.constexpr, PADDED_HALF: tl.constexpr,
):  # fmt: skip
    """Program (token): all its heads, ``STEP`` at a time.

    Args:
        query_ptr: ``[tokens, HEADS * 2 * HALF]``, rows ``query_stride`` apart; ``key_ptr`` alike.
        positions_ptr: int64 ``[3, tokens]``, rows ``position_stride`` apart.
        cache_ptr: ``[positions, 2 * HALF]``.
        TIME_PAIRS: How many pairs turn with time; ``ROW_PAIRS``, ``COLUMN_PAIRS`` alike.
        PADDED_HALF: The power of two from ``HALF`` on.
    """
    token = tl.program_id(0).to(tl.int64)
    place_ptr = positions_ptr + token
    time = tl.load(place_ptr) * (2 * HALF)
    row = tl.load(place_ptr + position_stride) * (2 * HALF)
    column = tl.load(place_ptr + 2 * position_stride) * (2 * HALF)
    # The angles are loaded once for every head of a step, into the lanes that need them: the same
    # addresses, so the same bytes of the cache, and nothing to exchange between lanes.
    pair = tl.arange(0, PADDED_HALF)[None, :] + tl.zeros((STEP, 1), tl.int32)
    cos = load_angles(
        cache_ptr, time, row, column, pair, HALF, TIME_PAIRS, ROW_PAIRS, COLUMN_PAIRS, INTERLEAVED
    )
    sin = load_angles(
        cache_ptr + HALF, time, row, column, pair,
        HALF, TIME_PAIRS, ROW_PAIRS, COLUMN_PAIRS, INTERLEAVED,
    )  # fmt: skip
    rotate_heads(query_ptr + token * query_stride, cos, sin, HEADS, HALF)
    rotate_heads(key_ptr + token * key_stride, cos, sin, KV_HEADS, HALF)


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
    constants, options = configuration(heads, kv_heads, head_dim, tuple(sections), interleaved)
    mrope_kernel[(tokens,)](
        query, key, positions, cos_sin_cache,
        query.stride(0), key.stride(0), positions.stride(0),
        **constants, **options,
    )  # fmt: skip


@functools.cache
def configuration(
    heads: int, kv_heads: int, head_dim: int, sections: tuple[int, ...], interleaved: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The kernel's constants, and the compiler's options."""
    launch = mrope_launch(heads + kv_heads)
    padded_half = triton.next_power_of_2(head_dim // 2)
    constants = {
        "HEADS": heads,
        "KV_HEADS": kv_heads,
        "HALF": head_dim // 2,
        "TIME_PAIRS": sections[0],
        "ROW_PAIRS": sections[1],
        "COLUMN_PAIRS": sections[2],
        "INTERLEAVED": interleaved,
        # One vector a lane: more heads at a time would only cost registers.
        "STEP": max(1, launch.warps * LANES * VECTOR // padded_half),
        "PADDED_HALF": padded_half,
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

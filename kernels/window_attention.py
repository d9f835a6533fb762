"""Attention within windows of the vision tower: rotary embedding, scores, softmax and sum of
values in one pass over packed queries, keys and values.

For each window and head, with R the rotary embedding of a token's place::

    out = softmax(R(q) R(k)^T / sqrt(head_dim)) v

One program owns one window of one head. A window fits in one tile (64 patches at most in
Qwen2.5-VL), so the softmax is a plain one, and every number is read from memory once: 4 words a
token and channel go over the bus, where a copy of q and k, a rotary kernel and a general
attention move 12.

The layout of a head. Rotary embedding turns pairs ``(i, i + half)``, and a score does not care in
which order channels are summed, so q and k are held as three tiles: the first ``WIDE`` channels of
the lower half, those of the upper half, and what is left of both side by side. A head of 80 becomes
32 + 32 + 16, without padding: channels 0..31, 40..71 and {32..39, 72..79}. The first two tiles turn
each other in registers; only the narrow one is read a second time, with its halves exchanged.
Larger heads take several wide tiles, one after the other. Values and results, whose order matters,
are held as 64 + 16.

Rotation and softmax are computed in float32 and rounded to the format of ``qkv`` before each
product; products add up in float32.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (what Triton compiles has no Python types)

import torch
import triton
import triton.language as tl

from .launch.checks import check_attention
from .launch.tiles import load_tile, split, split_half, store_tile, within
from .launch.tuning import (
    LONGEST_WINDOW,
    Launch,
    architecture,
    window_attention_launch,
)


@triton.jit
def load_rest(
    head_ptr, columns, row_mask, START: tl.constexpr, REST: tl.constexpr, HALF: tl.constexpr,
    EXCHANGED: tl.constexpr,
):  # fmt: skip
    """What the wide tiles leave of both halves, side by side: ``[rows, 2 * REST]``.

    Args:
        head_ptr: Pointers to the first channel of each row's head, ``[rows, 1]``.
        columns: ``0 .. 2 * REST``.
        START: Where the rest begins in a half.
        EXCHANGED: The upper half first.
    """
    upper = columns // REST
    if EXCHANGED:
        channels = START + columns + HALF - upper * (HALF + REST)
    else:
        channels = START + columns + upper * (HALF - REST)
    mask = within(row_mask, columns % REST, HALF - START, REST)
    return tl.load(head_ptr + channels[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def rotate_wide(head_ptr, columns, row_mask, cos, sin, USED: tl.constexpr, HALF: tl.constexpr):
    """A wide tile of the lower half and its counterpart in the upper one, rotated.

    Args:
        head_ptr: Pointers to the tile's first channel in the lower half, ``[rows, 1]``.
        columns: ``0 .. wide``, of which ``USED`` exist.
        cos: ``[rows, wide]``; ``sin`` alike.
    """
    DTYPE: tl.constexpr = head_ptr.dtype.element_ty
    lower = load_tile(head_ptr, columns, row_mask, USED, columns.shape[0]).to(tl.float32)
    upper = load_tile(head_ptr + HALF, columns, row_mask, USED, columns.shape[0]).to(tl.float32)
    return (lower * cos - upper * sin).to(DTYPE), (upper * cos + lower * sin).to(DTYPE)


@triton.jit
def rotated_scores(
    query_ptr, key_ptr, cos_ptr, sin_ptr, row_mask,
    HALF: tl.constexpr, NUM_WIDE: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """``R(q) R(k)^T``, float32 ``[rows, rows]``.

    Args:
        query_ptr: To the first channel of each row's head, ``[rows, 1]``; ``key_ptr`` alike.
        cos_ptr: To the first pair of each row, ``[rows, 1]``; ``sin_ptr`` alike.
    """
    USED: tl.constexpr = min(HALF, WIDE)
    columns = tl.arange(0, WIDE)
    scores = tl.zeros((row_mask.shape[0], row_mask.shape[0]), tl.float32)
    # One turn for heads below 128: the compiler makes no loop of it.
    for start in range(0, NUM_WIDE * WIDE, WIDE):
        turn_cos = load_tile(cos_ptr + start, columns, row_mask, USED, WIDE)
        turn_sin = load_tile(sin_ptr + start, columns, row_mask, USED, WIDE)
        query_lower, query_upper = rotate_wide(
            query_ptr + start, columns, row_mask, turn_cos, turn_sin, USED, HALF
        )
        key_lower, key_upper = rotate_wide(
            key_ptr + start, columns, row_mask, turn_cos, turn_sin, USED, HALF
        )
        scores = tl.dot(query_lower, tl.trans(key_lower), scores, input_precision="ieee")
        scores = tl.dot(query_upper, tl.trans(key_upper), scores, input_precision="ieee")
    if REST > 0:
        DTYPE: tl.constexpr = query_ptr.dtype.element_ty
        LEFT: tl.constexpr = NUM_WIDE * WIDE
        columns = tl.arange(0, 2 * REST)
        pairs = LEFT + columns % REST
        mask = within(row_mask, columns % REST, HALF - LEFT, REST)
        sign = tl.where(columns < REST, -1.0, 1.0)[None, :]
        turn_cos = tl.load(cos_ptr + pairs[None, :], mask=mask, other=0.0)
        turn_sin = tl.load(sin_ptr + pairs[None, :], mask=mask, other=0.0) * sign
        own = load_rest(query_ptr, columns, row_mask, LEFT, REST, HALF, False)
        other = load_rest(query_ptr, columns, row_mask, LEFT, REST, HALF, True)
        query_rest = (own * turn_cos + other * turn_sin).to(DTYPE)
        own = load_rest(key_ptr, columns, row_mask, LEFT, REST, HALF, False)
        other = load_rest(key_ptr, columns, row_mask, LEFT, REST, HALF, True)
        key_rest = (own * turn_cos + other * turn_sin).to(DTYPE)
        scores = tl.dot(query_rest, tl.trans(key_rest), scores, input_precision="ieee")
    return scores


@triton.jit
def window_attention_kernel(
    qkv_ptr, cos_ptr, sin_ptr, cu_seqlens_ptr, out_ptr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr,
    NUM_WIDE: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr,
    VALUE_WIDE: tl.constexpr, VALUE_REST: tl.constexpr,
):  # fmt: skip
    """Program (window, head). Strides follow from ``HEADS`` and ``HEAD_DIM``: as constants they
    tell the compiler how rows are aligned, without which it reads 16 bits at a time.

    Args:
        qkv_ptr: ``[tokens, 3, HEADS, HEAD_DIM]``; ``cos_ptr``, ``sin_ptr`` and ``cu_seqlens_ptr``
            as in the reference.
        out_ptr: ``[tokens, HEADS, HEAD_DIM]``.
        BLOCK: Rows and columns of the tile of scores; no window is longer.
        NUM_WIDE: Of each half of q and k, ``NUM_WIDE`` tiles of ``WIDE`` channels, and ``REST`` in
            the tile that both halves share.
        VALUE_WIDE: Channels of v's first tile; ``VALUE_REST`` of its second, or 0.
    """
    HALF: tl.constexpr = HEAD_DIM // 2
    SCALE: tl.constexpr = 1.4426950408889634 * HEAD_DIM**-0.5  # of base-2 exponents
    start = tl.load(cu_seqlens_ptr + tl.program_id(0))
    length = tl.load(cu_seqlens_ptr + tl.program_id(0) + 1) - start
    head = tl.program_id(1) * HEAD_DIM
    places = tl.arange(0, BLOCK)
    row_mask = (places < length)[:, None]
    tokens = (start + places).to(tl.int64)[:, None]
    query_ptr = qkv_ptr + tokens * (3 * HEADS * HEAD_DIM) + head
    key_ptr = query_ptr + HEADS * HEAD_DIM
    value_ptr = key_ptr + HEADS * HEAD_DIM
    result_ptr = out_ptr + tokens * (HEADS * HEAD_DIM) + head

    scores = rotated_scores(
        query_ptr, key_ptr, cos_ptr + tokens * HALF, sin_ptr + tokens * HALF, row_mask,
        HALF, NUM_WIDE, WIDE, REST,
    )  # fmt: skip
    scores = tl.where((places < length)[None, :], scores * SCALE, float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, 1)[:, None])
    share = (1.0 / tl.sum(weights, 1))[:, None]
    weights = weights.to(qkv_ptr.dtype.element_ty)

    USED: tl.constexpr = min(HEAD_DIM, VALUE_WIDE)
    columns = tl.arange(0, VALUE_WIDE)
    values = load_tile(value_ptr, columns, row_mask, USED, VALUE_WIDE)
    context = tl.dot(weights, values, input_precision="ieee") * share
    store_tile(result_ptr, columns, row_mask, context, USED, VALUE_WIDE)
    if VALUE_REST > 0:
        columns = tl.arange(0, VALUE_REST)
        LEFT: tl.constexpr = HEAD_DIM - VALUE_WIDE
        values = load_tile(value_ptr + VALUE_WIDE, columns, row_mask, LEFT, VALUE_REST)
        context = tl.dot(weights, values, input_precision="ieee") * share
        store_tile(result_ptr + VALUE_WIDE, columns, row_mask, context, LEFT, VALUE_REST)


def launch_window_attention(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor,
    max_seqlen: int,
) -> torch.Tensor:
    """`reference.window_attention` by Triton, for windows of `LONGEST_WINDOW` tokens at most.

    ``cu_seqlens`` stays on the device and is believed: windows that follow each other in the
    sequence, none longer than ``max_seqlen``. What lies in no window is not written.

    Raises:
        TypeError: a dtype is another than the kernel knows.
        ValueError: a shape, stride or device does not fit, or ``max_seqlen`` is too large.
    """
    check_attention(qkv, cos, sin, cu_seqlens)
    if max_seqlen > LONGEST_WINDOW:
        raise ValueError(
            f"max_seqlen is {max_seqlen}; a program holds windows of at most {LONGEST_WINDOW}"
            " tokens. full_attention takes segments of any length"
        )
    tokens, _, heads, head_dim = qkv.shape
    windows = len(cu_seqlens) - 1
    out = qkv.new_empty(tokens, heads * head_dim)
    if tokens and windows:
        launch = window_attention_launch(architecture(qkv.device), qkv.dtype, max_seqlen)
        window_attention_kernel[(windows, heads)](
            qkv, cos, sin, cu_seqlens, out,
            **launch_constants(heads, head_dim, launch), **launch.options,
        )  # fmt: skip
    return out


def launch_constants(heads: int, head_dim: int, launch: Launch) -> dict[str, int]:
    num_wide, wide, rest = split_half(head_dim // 2)
    value_wide, value_rest = split(head_dim)
    return {
        "HEADS": heads,
        "HEAD_DIM": head_dim,
        "BLOCK": launch.rows,
        "NUM_WIDE": num_wide,
        "WIDE": wide,
        "REST": rest,
        "VALUE_WIDE": value_wide,
        "VALUE_REST": value_rest,
    }

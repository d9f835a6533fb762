"""Attention within windows of the vision tower: rotary embedding, scores, softmax and sum of
values in one pass over packed queries, keys and values.

For each window and head, with R the rotary embedding of a token's place::

    out = softmax(R(q) R(k)^T / sqrt(head_dim)) v

One program owns one window of one head. A window fits in one tile (64 patches at most in
Qwen2.5-VL), so the softmax is a plain one, and every number is read from memory once: 4 words a
token and channel go over the bus, where a copy of q and k, a rotary kernel and a general
attention move 12.

The layout of a head. Rotary embedding turns pairs ``(i, i + half)``, and a score does not care
in which order channels are summed, so q and k are held as three tiles: the first ``wide``
channels of the lower half, those of the upper half, and what is left of both side by side.
A head of 80 becomes 32 + 32 + 16, without padding: channels 0..31, 40..71 and {32..39, 72..79}.
The first two tiles turn each other in registers; only the narrow one is read a second time, with
its halves exchanged. Larger heads take several turns of wide tiles. Values and results, whose order
matters, are held as 64 + 16.

Rotation and softmax are computed in float32 and rounded to the format of ``qkv`` before each
product; products add up in float32.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (what Triton compiles has no Python types)

import torch
import triton
import triton.language as tl

from . import dispatch
from .launch.attention_arguments import check_attention
from .launch.tiles import load_tile, split, split_half, store_tile, within
from .launch.tuning import (
    LONGEST_WINDOW,
    TYPE_NAMES,
    Launch,
    Specialisation,
    architecture,
    window_attention_launch,
)


@triton.jit
def load_rest(
    head, columns, row_mask, start: tl.constexpr, rest: tl.constexpr, half: tl.constexpr,
    exchanged: tl.constexpr,
):  # fmt: skip
    """What the wide tiles leave of both halves, side by side: ``[rows, 2 * rest]``.

    Args:
        head: Pointers to the first channel of each row's head, ``[rows, 1]``.
        columns: ``0 .. 2 * rest``.
        start: Where the rest begins in a half.
        exchanged: The upper half first.
    """
    upper = columns // rest
    if exchanged:
        channels = start + columns + half - upper * (half + rest)
    else:
        channels = start + columns + upper * (half - rest)
    mask = within(row_mask, columns % rest, half - start, rest)
    return tl.load(head + channels[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def rotate_wide(head, columns, row_mask, cos, sin, used: tl.constexpr, half: tl.constexpr):
    """A wide tile of the lower half and its counterpart in the upper one, rotated.

    Args:
        head: Pointers to the tile's first channel in the lower half, ``[rows, 1]``.
        columns: ``0 .. wide``, of which ``used`` exist.
        cos: ``[rows, wide]``; ``sin`` alike.
    """
    number: tl.constexpr = head.dtype.element_ty
    lower = load_tile(head, columns, row_mask, used, columns.shape[0]).to(tl.float32)
    upper = load_tile(head + half, columns, row_mask, used, columns.shape[0]).to(tl.float32)
    return (lower * cos - upper * sin).to(number), (upper * cos + lower * sin).to(number)


@triton.jit
def rotated_scores(
    query, key, cos, sin, row_mask,
    half: tl.constexpr, turns: tl.constexpr, wide: tl.constexpr, rest: tl.constexpr,
):  # fmt: skip
    """``R(q) R(k)^T``, float32 ``[rows, rows]``.

    Args:
        query: Pointers to the first channel of each row's head, ``[rows, 1]``; ``key`` alike.
        cos: Pointers to the first pair of each row, ``[rows, 1]``; ``sin`` alike.
    """
    used: tl.constexpr = min(half, wide)
    columns = tl.arange(0, wide)
    scores = tl.zeros((row_mask.shape[0], row_mask.shape[0]), tl.float32)
    # One turn for heads below 128: the compiler makes no loop of it.
    for start in range(0, turns * wide, wide):
        turn_cos = load_tile(cos + start, columns, row_mask, used, wide)
        turn_sin = load_tile(sin + start, columns, row_mask, used, wide)
        query_lower, query_upper = rotate_wide(
            query + start, columns, row_mask, turn_cos, turn_sin, used, half
        )
        key_lower, key_upper = rotate_wide(
            key + start, columns, row_mask, turn_cos, turn_sin, used, half
        )
        scores = tl.dot(query_lower, tl.trans(key_lower), scores, input_precision="ieee")
        scores = tl.dot(query_upper, tl.trans(key_upper), scores, input_precision="ieee")
    if rest > 0:
        number: tl.constexpr = query.dtype.element_ty
        left: tl.constexpr = turns * wide
        columns = tl.arange(0, 2 * rest)
        pairs = left + columns % rest
        mask = within(row_mask, columns % rest, half - left, rest)
        sign = tl.where(columns < rest, -1.0, 1.0)[None, :]
        turn_cos = tl.load(cos + pairs[None, :], mask=mask, other=0.0)
        turn_sin = tl.load(sin + pairs[None, :], mask=mask, other=0.0) * sign
        own = load_rest(query, columns, row_mask, left, rest, half, False)
        other = load_rest(query, columns, row_mask, left, rest, half, True)
        query_rest = (own * turn_cos + other * turn_sin).to(number)
        own = load_rest(key, columns, row_mask, left, rest, half, False)
        other = load_rest(key, columns, row_mask, left, rest, half, True)
        key_rest = (own * turn_cos + other * turn_sin).to(number)
        scores = tl.dot(query_rest, tl.trans(key_rest), scores, input_precision="ieee")
    return scores


@triton.jit
def window_attention_kernel(
    qkv, cos, sin, borders, out,
    heads: tl.constexpr, head_dim: tl.constexpr, block: tl.constexpr,
    turns: tl.constexpr, wide: tl.constexpr, rest: tl.constexpr,
    value_wide: tl.constexpr, value_rest: tl.constexpr,
):  # fmt: skip
    """Program (window, head). Strides follow from ``heads`` and ``head_dim``: as constants they
    tell the compiler how rows are aligned, without which it reads 16 bits at a time.

    Args:
        qkv: ``[tokens, 3, heads, head_dim]``; ``cos``, ``sin``, ``borders`` as in the reference.
        out: ``[tokens, heads, head_dim]``.
        block: Rows and columns of the tile of scores; no window is longer.
        turns: Of each half of q and k, ``turns`` tiles of ``wide`` channels, and ``rest`` in the
            tile that both halves share.
        value_wide: Channels of v's first tile; ``value_rest`` of its second, or 0.
    """
    half: tl.constexpr = head_dim // 2
    scale: tl.constexpr = 1.4426950408889634 * head_dim**-0.5  # of base-2 exponents
    start = tl.load(borders + tl.program_id(0))
    length = tl.load(borders + tl.program_id(0) + 1) - start
    head = tl.program_id(1) * head_dim
    places = tl.arange(0, block)
    row_mask = (places < length)[:, None]
    tokens = (start + places).to(tl.int64)[:, None]
    query = qkv + tokens * (3 * heads * head_dim) + head
    key = query + heads * head_dim
    value = key + heads * head_dim
    result = out + tokens * (heads * head_dim) + head

    scores = rotated_scores(
        query, key, cos + tokens * half, sin + tokens * half, row_mask, half, turns, wide, rest
    )
    scores = tl.where((places < length)[None, :], scores * scale, float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, 1)[:, None])
    share = (1.0 / tl.sum(weights, 1))[:, None]
    weights = weights.to(qkv.dtype.element_ty)

    used: tl.constexpr = min(head_dim, value_wide)
    columns = tl.arange(0, value_wide)
    values = load_tile(value, columns, row_mask, used, value_wide)
    context = tl.dot(weights, values, input_precision="ieee") * share
    store_tile(result, columns, row_mask, context, used, value_wide)
    if value_rest > 0:
        columns = tl.arange(0, value_rest)
        left: tl.constexpr = head_dim - value_wide
        values = load_tile(value + value_wide, columns, row_mask, left, value_rest)
        context = tl.dot(weights, values, input_precision="ieee") * share
        store_tile(result + value_wide, columns, row_mask, context, left, value_rest)


def launch_window_attention(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, borders: torch.Tensor, longest: int
) -> torch.Tensor:
    """`reference.window_attention` by Triton, for windows of `LONGEST_WINDOW` tokens at most.

    ``borders`` stays on the device and is believed: windows that follow each other in the
    sequence, none longer than ``longest``. What lies in no window is not written.

    Raises:
        TypeError: a dtype is another than the kernel knows.
        ValueError: a shape, stride or device does not fit, or ``longest`` does not.
    """
    check_attention(qkv, cos, sin, borders)
    if longest > LONGEST_WINDOW:
        raise ValueError(
            f"longest is {longest}; a program holds windows of at most {LONGEST_WINDOW} tokens."
            " full_attention takes runs of any length"
        )
    tokens, _, heads, head_dim = qkv.shape
    windows = len(borders) - 1
    out = qkv.new_empty(tokens, heads * head_dim)
    if tokens and windows:
        launch = window_attention_launch(architecture(qkv.device), qkv.dtype, longest)
        window_attention_kernel[(windows, heads)](
            qkv, cos, sin, borders, out,
            **_constants(heads, head_dim, launch), **launch.options,
        )  # fmt: skip
    return out


def specialisations(target: str) -> list[Specialisation]:
    """The shipped forms: bfloat16, windows of 64, whole towers and tensor-parallel shares.

    Args:
        target: Architecture, as `tuning.architecture` names it.
    """
    number = TYPE_NAMES[torch.bfloat16]
    launch = window_attention_launch(target, torch.bfloat16, 64)
    return [
        Specialisation(
            name=f"window_attention {heads} heads of {head_dim}, {number}",
            function=window_attention_kernel,
            signature={
                "qkv": f"*{number}",
                "cos": "*fp32",
                "sin": "*fp32",
                "borders": "*i32",
                "out": f"*{number}",
            },
            constants=_constants(heads, head_dim, launch),
            divisible=("qkv", "cos", "sin", "borders", "out"),
            options=launch.options,
        )
        for heads, head_dim in ((16, 80), (8, 80), (4, 80), (16, 64), (16, 128))
    ]


def _constants(heads: int, head_dim: int, launch: Launch) -> dict[str, int]:
    turns, wide, rest = split_half(head_dim // 2)
    value_wide, value_rest = split(head_dim)
    return {
        "heads": heads,
        "head_dim": head_dim,
        "block": launch.rows,
        "turns": turns,
        "wide": wide,
        "rest": rest,
        "value_wide": value_wide,
        "value_rest": value_rest,
    }


@torch.library.custom_op("saccade::window_attention", mutates_args=())
def window_attention(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, borders: torch.Tensor, longest: int
) -> torch.Tensor:
    """The registered operation: `reference.window_attention` in the form `dispatch` chooses."""
    run = dispatch.implementation("window_attention", qkv.device.type)
    return run(qkv, cos, sin, borders, longest)


@window_attention.register_fake
def _(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, borders: torch.Tensor, longest: int
) -> torch.Tensor:
    return qkv.new_empty(qkv.shape[0], qkv.shape[2] * qkv.shape[3])

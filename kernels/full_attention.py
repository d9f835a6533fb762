"""Attention over whole images and frames: rotary embedding in place, then softmax attention.

Segments have thousands of tokens, so each key would be rotated once for every block of queries if
the rotation were part of the attention. `rotate_packed` rotates queries and keys where they lie
first.

The attention is FlashAttention on strided views of the packed tensor, where one is provided.
Elsewhere it is the kernel of this file, which walks over blocks of keys with a running maximum
and sum (online softmax: Milakov and Gimelshein, arXiv:1805.02867; Dao, arXiv:2307.08691)::

    m' = max(m, max(s))    l' = l exp(m - m') + sum(exp(s - m'))
    o' = o exp(m - m') + exp(s - m') v                            out = o / l

One program owns a block of queries of one head and segment. Heads are held as tiles of ``WIDE`` and
``REST`` channels (80 as 64 + 16, without padding). Scores, maxima, sums and results are float32;
weights are rounded to the format of ``qkv`` before they meet the values.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (what Triton compiles has no Python types)

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

from . import rotate_packed
from .launch.checks import check_attention, check_cu_seqlens, check_packed
from .launch.tiles import load_tile, split, store_tile
from .launch.tuning import Launch, architecture, full_attention_launch


@triton.jit(do_not_specialize=["query_blocks"])
def attention_packed_kernel(
    qkv_ptr, cu_seqlens_ptr, out_ptr, query_blocks,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    WIDE: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """Program (block of queries of a segment, head). Neighbours share a head's keys, in the cache.

    Args:
        qkv_ptr: ``[tokens, 3, HEADS, HEAD_DIM]``, rotated.
        cu_seqlens_ptr: int32 ``[segments + 1]``.
        out_ptr: ``[tokens, HEADS, HEAD_DIM]``.
        query_blocks: Of the longest segment.
        ROWS: Queries of a program.
        COLUMNS: Keys of a step.
        WIDE: Width of a head's first tile; ``REST`` of its second, or 0.
    """
    SCALE: tl.constexpr = 1.4426950408889634 * HEAD_DIM**-0.5  # of base-2 exponents
    DTYPE: tl.constexpr = qkv_ptr.dtype.element_ty
    PITCH: tl.constexpr = 3 * HEADS * HEAD_DIM
    USED: tl.constexpr = min(HEAD_DIM, WIDE)
    LEFT: tl.constexpr = HEAD_DIM - WIDE
    segment = tl.program_id(0) // query_blocks
    first = tl.program_id(0) % query_blocks * ROWS
    start = tl.load(cu_seqlens_ptr + segment)
    length = tl.load(cu_seqlens_ptr + segment + 1) - start
    if first >= length:
        return
    head = tl.program_id(1) * HEAD_DIM
    wide_columns = tl.arange(0, WIDE)
    places = first + tl.arange(0, ROWS)
    row_mask = (places < length)[:, None]
    tokens = (start + places).to(tl.int64)[:, None]
    query_ptr = qkv_ptr + tokens * PITCH + head
    query_wide = load_tile(query_ptr, wide_columns, row_mask, USED, WIDE)
    context_wide = tl.zeros((ROWS, WIDE), tl.float32)
    if REST > 0:
        rest_columns = tl.arange(0, REST)
        query_rest = load_tile(query_ptr + WIDE, rest_columns, row_mask, LEFT, REST)
        context_rest = tl.zeros((ROWS, REST), tl.float32)
    largest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    for step in range(0, length, COLUMNS):
        key_places = step + tl.arange(0, COLUMNS)
        key_mask = (key_places < length)[:, None]
        key_tokens = (start + key_places).to(tl.int64)[:, None]
        key_ptr = qkv_ptr + key_tokens * PITCH + head + HEADS * HEAD_DIM
        value_ptr = key_ptr + HEADS * HEAD_DIM
        keys = load_tile(key_ptr, wide_columns, key_mask, USED, WIDE)
        scores = tl.dot(query_wide, tl.trans(keys), input_precision="ieee")
        if REST > 0:
            keys = load_tile(key_ptr + WIDE, rest_columns, key_mask, LEFT, REST)
            scores = tl.dot(query_rest, tl.trans(keys), scores, input_precision="ieee")
        scores = tl.where((key_places < length)[None, :], scores * SCALE, float("-inf"))
        # Every step has a key, so the maximum is a number from the first step on.
        larger = tl.maximum(largest, tl.max(scores, 1))
        decay = tl.exp2(largest - larger)
        weights = tl.exp2(scores - larger[:, None])
        total = total * decay + tl.sum(weights, 1)
        largest = larger
        weights = weights.to(DTYPE)
        values = load_tile(value_ptr, wide_columns, key_mask, USED, WIDE)
        context_wide = tl.dot(
            weights, values, context_wide * decay[:, None], input_precision="ieee"
        )
        if REST > 0:
            values = load_tile(value_ptr + WIDE, rest_columns, key_mask, LEFT, REST)
            context_rest = tl.dot(
                weights, values, context_rest * decay[:, None], input_precision="ieee"
            )
    share = (1.0 / total)[:, None]
    result_ptr = out_ptr + tokens * (HEADS * HEAD_DIM) + head
    store_tile(result_ptr, wide_columns, row_mask, context_wide * share, USED, WIDE)
    if REST > 0:
        store_tile(result_ptr + WIDE, rest_columns, row_mask, context_rest * share, LEFT, REST)


def launch_attention_packed(
    qkv: torch.Tensor, cu_seqlens: torch.Tensor, max_seqlen: int
) -> torch.Tensor:
    """Attention of rotated q and k within segments, by the kernel of this file.

    ``cu_seqlens`` stays on the device and is believed: segments that follow each other in the
    sequence, none longer than ``max_seqlen``. What lies in no segment is not written.

    Returns:
        ``[tokens, heads * head_dim]``.

    Raises:
        As `launch_full_attention`.
    """
    check_packed(qkv)
    check_cu_seqlens(cu_seqlens, qkv)
    tokens, _, heads, head_dim = qkv.shape
    segments = len(cu_seqlens) - 1
    out = qkv.new_empty(tokens, heads * head_dim)
    if tokens and segments and max_seqlen > 0:
        launch = full_attention_launch(architecture(qkv.device), qkv.dtype, head_dim)
        query_blocks = triton.cdiv(max_seqlen, launch.rows)
        attention_packed_kernel[(segments * query_blocks, heads)](
            qkv, cu_seqlens, out, query_blocks,
            **launch_constants(heads, head_dim, launch), **launch.options,
        )  # fmt: skip
    return out


FindFlashAttention = Callable[[str, int], Callable[..., torch.Tensor] | None]

_find_flash_attention: FindFlashAttention | None = None


def provide_flash_attention(find: FindFlashAttention) -> None:
    """Has `full_attention` run FlashAttention where there is one.

    Args:
        find: From the type of device and head_dim to a function that is called as
            `vllm.vllm_flash_attn.flash_attn_varlen_func`, or None.
    """
    global _find_flash_attention
    _find_flash_attention = find


def find_flash_attention(device_type: str, head_dim: int) -> Callable[..., torch.Tensor] | None:
    """What was provided for such heads; None where there is nothing."""
    return None if _find_flash_attention is None else _find_flash_attention(device_type, head_dim)


def attend(
    qkv: torch.Tensor,
    cu_seqlens: torch.Tensor,
    max_seqlen: int,
    flash_attention: Callable[..., Any] | None,
) -> torch.Tensor:
    """Attention of rotated q and k: FlashAttention if given and if it takes such heads, else ours.

    Args:
        flash_attention: As `provide_flash_attention` has it; called on views.

    Returns:
        ``[tokens, heads * head_dim]``.
    """
    tokens, _, _, head_dim = qkv.shape
    taken = qkv.dtype != torch.float32 and head_dim % 8 == 0 and head_dim <= 256
    if flash_attention is None or not taken or not tokens:
        return launch_attention_packed(qkv, cu_seqlens, max_seqlen)
    query, key, value = qkv.unbind(1)
    context = flash_attention(
        q=query,
        k=key,
        v=value,
        cu_seqlens_q=cu_seqlens,
        cu_seqlens_k=cu_seqlens,
        max_seqlen_q=max_seqlen,
        max_seqlen_k=max_seqlen,
        softmax_scale=head_dim**-0.5,
        causal=False,
    )
    return context.flatten(1)


def launch_full_attention(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor,
    max_seqlen: int,
) -> torch.Tensor:
    """`reference.full_attention` on a GPU; overwrites q and k by their rotated selves.

    Raises:
        TypeError: a dtype is another than the kernels know.
        ValueError: a shape, stride or device does not fit.
    """
    check_attention(qkv, cos, sin, cu_seqlens)
    rotate_packed.launch_rotate_packed(qkv, cos, sin)
    return attend(qkv, cu_seqlens, max_seqlen, find_flash_attention(qkv.device.type, qkv.shape[3]))


def launch_constants(heads: int, head_dim: int, launch: Launch) -> dict[str, int]:
    wide, rest = split(head_dim)
    return {
        "HEADS": heads,
        "HEAD_DIM": head_dim,
        "ROWS": launch.rows,
        "COLUMNS": launch.columns,
        "WIDE": wide,
        "REST": rest,
    }

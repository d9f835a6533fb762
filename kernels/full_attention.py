"""Attention over whole images and frames: rotary embedding in place, then softmax attention.

Runs have thousands of tokens, so each key would be rotated once for every block of queries if the
rotation were part of the attention. `rotate_packed` rotates queries and keys where they lie first.

The attention is vLLM's FlashAttention on strided views of the packed tensor, where vLLM has it.
Elsewhere it is the kernel of this file, which walks over blocks of keys with a running maximum
and sum (online softmax: Milakov and Gimelshein, arXiv:1805.02867; Dao, arXiv:2307.08691)::

    m' = max(m, max(s))    l' = l exp(m - m') + sum(exp(s - m'))
    o' = o exp(m - m') + exp(s - m') v                            out = o / l

One program owns a block of queries of one head and run. Heads are held as tiles of ``wide`` and
``rest`` channels (80 as 64 + 16, without padding). Scores, maxima, sums and results are float32;
weights are rounded to the format of ``qkv`` before they meet the values.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
# (what Triton compiles has no Python types)

import functools
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

from . import dispatch, rotate_packed
from .launch.attention_arguments import check_attention, check_borders, check_packed
from .launch.tiles import load_tile, split, store_tile
from .launch.tuning import TYPE_NAMES, Launch, Specialisation, architecture, full_attention_launch


@triton.jit(do_not_specialize=["query_blocks"])
def attention_packed_kernel(
    qkv, borders, out, query_blocks,
    heads: tl.constexpr, head_dim: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
    wide: tl.constexpr, rest: tl.constexpr,
):  # fmt: skip
    """Program (block of queries of a run, head). Neighbours share a head's keys, in the cache.

    Args:
        qkv: ``[tokens, 3, heads, head_dim]``, rotated.
        borders: int32 ``[runs + 1]``.
        out: ``[tokens, heads, head_dim]``.
        query_blocks: Of the longest run.
        rows: Queries of a program.
        columns: Keys of a step.
        wide: Width of a head's first tile; ``rest`` of its second, or 0.
    """
    scale: tl.constexpr = 1.4426950408889634 * head_dim**-0.5  # of base-2 exponents
    number: tl.constexpr = qkv.dtype.element_ty
    pitch: tl.constexpr = 3 * heads * head_dim
    used: tl.constexpr = min(head_dim, wide)
    left: tl.constexpr = head_dim - wide
    run = tl.program_id(0) // query_blocks
    first = tl.program_id(0) % query_blocks * rows
    start = tl.load(borders + run)
    length = tl.load(borders + run + 1) - start
    if first >= length:
        return
    head = tl.program_id(1) * head_dim
    wide_columns = tl.arange(0, wide)
    places = first + tl.arange(0, rows)
    row_mask = (places < length)[:, None]
    tokens = (start + places).to(tl.int64)[:, None]
    query = qkv + tokens * pitch + head
    query_wide = load_tile(query, wide_columns, row_mask, used, wide)
    context_wide = tl.zeros((rows, wide), tl.float32)
    if rest > 0:
        rest_columns = tl.arange(0, rest)
        query_rest = load_tile(query + wide, rest_columns, row_mask, left, rest)
        context_rest = tl.zeros((rows, rest), tl.float32)
    largest = tl.full((rows,), float("-inf"), tl.float32)
    total = tl.zeros((rows,), tl.float32)
    for step in range(0, length, columns):
        key_places = step + tl.arange(0, columns)
        key_mask = (key_places < length)[:, None]
        key = qkv + (start + key_places).to(tl.int64)[:, None] * pitch + head + heads * head_dim
        value = key + heads * head_dim
        keys = load_tile(key, wide_columns, key_mask, used, wide)
        scores = tl.dot(query_wide, tl.trans(keys), input_precision="ieee")
        if rest > 0:
            keys = load_tile(key + wide, rest_columns, key_mask, left, rest)
            scores = tl.dot(query_rest, tl.trans(keys), scores, input_precision="ieee")
        scores = tl.where((key_places < length)[None, :], scores * scale, float("-inf"))
        # Every step has a key, so the maximum is a number from the first step on.
        larger = tl.maximum(largest, tl.max(scores, 1))
        decay = tl.exp2(largest - larger)
        weights = tl.exp2(scores - larger[:, None])
        total = total * decay + tl.sum(weights, 1)
        largest = larger
        weights = weights.to(number)
        values = load_tile(value, wide_columns, key_mask, used, wide)
        context_wide = tl.dot(
            weights, values, context_wide * decay[:, None], input_precision="ieee"
        )
        if rest > 0:
            values = load_tile(value + wide, rest_columns, key_mask, left, rest)
            context_rest = tl.dot(
                weights, values, context_rest * decay[:, None], input_precision="ieee"
            )
    share = (1.0 / total)[:, None]
    result = out + tokens * (heads * head_dim) + head
    store_tile(result, wide_columns, row_mask, context_wide * share, used, wide)
    if rest > 0:
        store_tile(result + wide, rest_columns, row_mask, context_rest * share, left, rest)


def launch_attention_packed(qkv: torch.Tensor, borders: torch.Tensor, longest: int) -> torch.Tensor:
    """Attention of rotated q and k within runs, by the kernel of this file.

    ``borders`` stays on the device and is believed: runs that follow each other in the sequence,
    none longer than ``longest``. What lies in no run is not written.

    Returns:
        ``[tokens, heads * head_dim]``.

    Raises:
        As `launch_full_attention`.
    """
    check_packed(qkv)
    check_borders(borders, qkv)
    tokens, _, heads, head_dim = qkv.shape
    runs = len(borders) - 1
    out = qkv.new_empty(tokens, heads * head_dim)
    if tokens and runs and longest > 0:
        launch = full_attention_launch(architecture(qkv.device), qkv.dtype, head_dim)
        query_blocks = triton.cdiv(longest, launch.rows)
        attention_packed_kernel[(runs * query_blocks, heads)](
            qkv, borders, out, query_blocks,
            **_constants(heads, head_dim, launch), **launch.options,
        )  # fmt: skip
    return out


@functools.cache
def find_flash_attention(device_type: str, head_dim: int) -> Callable[..., Any] | None:
    """vLLM's FlashAttention in the version that vLLM itself would take here, or None."""
    if device_type != "cuda" or torch.version.hip:
        return None
    try:
        from vllm.v1.attention.backends.fa_utils import get_flash_attn_version
        from vllm.vllm_flash_attn import flash_attn_varlen_func
    except ImportError:
        return None
    version = get_flash_attn_version(head_size=head_dim)
    if version is None:
        return None
    return functools.partial(flash_attn_varlen_func, fa_version=version)


def attend(
    qkv: torch.Tensor,
    borders: torch.Tensor,
    longest: int,
    flash_attention: Callable[..., Any] | None,
) -> torch.Tensor:
    """Attention of rotated q and k: FlashAttention if given and if it takes such heads, else ours.

    Args:
        flash_attention: Called as `vllm.vllm_flash_attn.flash_attn_varlen_func`, on views.

    Returns:
        ``[tokens, heads * head_dim]``.
    """
    tokens, _, _, head_dim = qkv.shape
    taken = qkv.dtype != torch.float32 and head_dim % 8 == 0 and head_dim <= 256
    if flash_attention is None or not taken or not tokens:
        return launch_attention_packed(qkv, borders, longest)
    query, key, value = qkv.unbind(1)
    context = flash_attention(
        q=query,
        k=key,
        v=value,
        cu_seqlens_q=borders,
        cu_seqlens_k=borders,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        softmax_scale=head_dim**-0.5,
        causal=False,
    )
    return context.flatten(1)


def launch_full_attention(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, borders: torch.Tensor, longest: int
) -> torch.Tensor:
    """`reference.full_attention` on a GPU; overwrites q and k by their rotated selves.

    Raises:
        TypeError: a dtype is another than the kernels know.
        ValueError: a shape, stride or device does not fit.
    """
    check_attention(qkv, cos, sin, borders)
    rotate_packed.launch_rotate_packed(qkv, cos, sin)
    return attend(qkv, borders, longest, find_flash_attention(qkv.device.type, qkv.shape[3]))


def specialisations(target: str) -> list[Specialisation]:
    """The shipped forms: bfloat16, whole towers and tensor-parallel shares.

    Args:
        target: Architecture, as `tuning.architecture` names it.
    """
    number = TYPE_NAMES[torch.bfloat16]
    forms: list[Specialisation] = []
    for heads, head_dim in ((16, 80), (8, 80), (4, 80), (16, 64), (16, 128)):
        launch = full_attention_launch(target, torch.bfloat16, head_dim)
        form = Specialisation(
            name=f"full_attention {heads} heads of {head_dim}, {number}",
            function=attention_packed_kernel,
            signature={
                "qkv": f"*{number}",
                "borders": "*i32",
                "out": f"*{number}",
                "query_blocks": "i32",
            },
            constants=_constants(heads, head_dim, launch),
            divisible=("qkv", "borders", "out"),
            options=launch.options,
        )
        forms.append(form)
    return forms


def _constants(heads: int, head_dim: int, launch: Launch) -> dict[str, int]:
    wide, rest = split(head_dim)
    return {
        "heads": heads,
        "head_dim": head_dim,
        "rows": launch.rows,
        "columns": launch.columns,
        "wide": wide,
        "rest": rest,
    }


@torch.library.custom_op("saccade::full_attention", mutates_args=("qkv",))
def full_attention(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, borders: torch.Tensor, longest: int
) -> torch.Tensor:
    """The registered operation: `reference.full_attention` in the form `dispatch` chooses."""
    run = dispatch.implementation("full_attention", qkv.device.type)
    return run(qkv, cos, sin, borders, longest)


@full_attention.register_fake
def _(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, borders: torch.Tensor, longest: int
) -> torch.Tensor:
    return qkv.new_empty(qkv.shape[0], qkv.shape[2] * qkv.shape[3])

"""Forms for the CPU: compiled (`compiled`) where these are there and right, or in PyTorch, with
rotary embedding and attention on pieces that fit caches.

vLLM's tower copies queries and keys, rotates them into new tensors and calls attention once a
segment. Here windows of one length go through rotary embedding and attention together, a few
hundred tokens at a time (an image's windows have at most four lengths), and segments of full
attention rotate in place. No temporary is larger than a piece: memory fresh from the system costs
more than the arithmetic. Scores and sums are float32 whatever the dtype.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention

from .. import reference
from . import compiled
from .processor import processor

_PIECE = 512  # tokens that are worked on at once


def window_attention(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor,
    max_seqlen: int,
) -> torch.Tensor:
    """See `reference.window_attention`."""
    context = _compiled_attention(qkv, cos, sin, cu_seqlens)
    return window_attention_in_pieces(qkv, cos, sin, cu_seqlens) if context is None else context


def full_attention(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor,
    max_seqlen: int,
) -> torch.Tensor:
    """See `reference.full_attention`; may overwrite queries and keys with the rotated ones."""
    context = _compiled_attention(qkv, cos, sin, cu_seqlens)
    return full_attention_in_pieces(qkv, cos, sin, cu_seqlens) if context is None else context


def _compiled_attention(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cu_seqlens: torch.Tensor
) -> torch.Tensor | None:
    """Attention by the fastest compiled backend that does not fail; None where there is none.

    Products of bfloat16 only where the processor has them: elsewhere those of float32 are faster.
    """
    native = qkv.dtype == torch.bfloat16 and processor().bfloat16_brgemm
    for name in ("attention_bfloat16", "attention") if native else ("attention",):
        run = compiled.operation(name, qkv.dtype)
        if run is None:
            continue
        try:
            context: torch.Tensor = run(qkv, cos, sin, cu_seqlens)
        except MemoryError:
            continue  # of this call alone: the next backend may need less
        except Exception as error:  # a library may refuse a shape that no test had
            compiled.put_out_of_use(name, qkv.dtype, error)
        else:
            return context
    return None


def mrope(
    query: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor,
    cos_sin_cache: torch.Tensor,
    head_dim: int,
    sections: Sequence[int],
    interleaved: bool,
) -> None:
    """See `reference.mrope`. Products and sums are float32, whatever the dtype."""
    one_type = cos_sin_cache.dtype == query.dtype
    run = compiled.operation("mrope", query.dtype) if one_type else None
    run = run or reference.mrope
    run(query, key, positions, cos_sin_cache, head_dim, sections, interleaved)


def window_attention_in_pieces(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor,
    max_seqlen: int = 0,
) -> torch.Tensor:
    """Rotary embedding and attention of a few windows at a time; on any device."""
    context = torch.empty_like(qkv[:, 0], memory_format=torch.contiguous_format)
    for length, rows in _pieces(cu_seqlens):
        piece = qkv[rows]
        _rotate(piece, cos[rows], sin[rows], out=(rotated := torch.empty_like(piece[:, :2])))
        # [segments, heads, length, head_dim]
        query, key, value = (
            part.view(-1, length, *part.shape[1:]).transpose(1, 2)
            for part in (rotated[:, 0], rotated[:, 1], piece[:, 2])
        )
        found = scaled_dot_product_attention(query, key, value)
        context[rows] = found.transpose(1, 2).flatten(0, 1)
    return context.flatten(1)


def full_attention_in_pieces(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor,
    max_seqlen: int = 0,
) -> torch.Tensor:
    """Rotary embedding in place, a piece at a time, then attention segment by segment; on any
    device."""
    for piece, its_cos, its_sin in zip(
        *(torch.split(whole, _PIECE) for whole in (qkv, cos, sin)), strict=True
    ):
        _rotate(piece, its_cos, its_sin, out=piece[:, :2])
    context = torch.empty_like(qkv[:, 0], memory_format=torch.contiguous_format)
    ends = cu_seqlens.tolist()
    for start, end in pairwise(ends):
        # [1, heads, length, head_dim]
        query, key, value = (part[None] for part in qkv[start:end].permute(1, 2, 0, 3))
        context[start:end] = scaled_dot_product_attention(query, key, value)[0].transpose(0, 1)
    return context.flatten(1)


def _rotate(qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, out: torch.Tensor) -> None:
    """Rotate the queries and keys of ``[tokens, 3, heads, head_dim]`` into ``[tokens, 2, ...]``."""
    first, second = qkv[:, :2].float().chunk(2, dim=-1)
    cos, sin = cos[:, None, None], sin[:, None, None]
    turned = (first * cos).addcmul_(second, sin, value=-1)
    half = out.shape[-1] // 2
    out_second = (second * cos).addcmul_(first, sin)  # before `out`, which may be where we read
    out[..., :half], out[..., half:] = turned, out_second


def _pieces(cu_seqlens: torch.Tensor) -> Iterator[tuple[int, slice | torch.Tensor]]:
    """Whole segments of one length, up to a piece: the length, and where their tokens are."""
    exist = cu_seqlens.diff() > 0
    lengths, starts = cu_seqlens.diff()[exist], cu_seqlens[:-1][exist]
    different = torch.unique(lengths).tolist()
    for length in different:
        at_once = max(1, _PIECE // length)
        if len(different) == 1:
            for first in range(0, len(starts) * length, at_once * length):
                yield length, slice(first, min(first + at_once * length, len(starts) * length))
            continue
        for some in torch.split(starts[lengths == length].long(), at_once):
            yield length, (some[:, None] + torch.arange(length, device=some.device)).flatten()

"""Forms for the CPU: compiled (`compiled`) where these are there and right, or in PyTorch, with
rotary embedding and attention on pieces that fit caches.

vLLM's tower copies queries and keys, rotates them into new tensors and calls attention once a
segment. Here windows of one length go through rotary embedding and attention together, a few
hundred tokens at a time (an image's windows have at most four lengths), and segments of full
attention rotate in place. No temporary is larger than a piece: memory fresh from the system costs
more than the arithmetic. Scores and sums are float32 whatever the dtype.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention

from .. import reference
from . import compiled
from .processor import processor

_PIECE = 512  # tokens that are worked on at once


def _attention(
    in_pieces: Callable[..., torch.Tensor],
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor,
    max_seqlen: int,
) -> torch.Tensor:
    """Attention by the fastest compiled backend that does not fail, or else ``in_pieces``.

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
    return in_pieces(qkv, cos, sin, cu_seqlens)


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


window_attention = functools.partial(_attention, window_attention_in_pieces)
"""See `reference.window_attention`."""

full_attention = functools.partial(_attention, full_attention_in_pieces)
"""See `reference.full_attention`; may overwrite queries and keys with the rotated ones."""


def patch_input(
    pixels: torch.Tensor,
    unit_offsets: torch.Tensor,
    row_bytes: torch.Tensor,
    frame_bytes: torch.Tensor,
    patch_size: int,
    merge_size: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """See `reference.patch_input`: one copy of whole rows, and arithmetic on bytes.

    Rasters are whole patches wide, so every row of a patch begins at a multiple of its own length.
    All of ``pixels`` is then a matrix whose rows are rows of patches, and picking rows of a matrix
    is the one gather that PyTorch does with plain copies of memory.
    """
    step = 3 * patch_size  # bytes of a row of a patch; from here on, places count in these
    frames = pixels.shape[1] // (step * patch_size)
    corner, row, frame = (
        (places // step).view(-1, 1, 1, 1, 1) for places in (unit_offsets, row_bytes, frame_bytes)
    )
    rows = torch.arange(merge_size * patch_size).view(merge_size, 1, 1, patch_size)
    columns = torch.arange(merge_size).view(merge_size, 1, 1)
    each = torch.arange(frames).view(frames, 1)
    # [units, unit row, unit column, frame, row]
    places = corner + row * rows + columns + frame * each
    vectors = pixels.view(-1, step).index_select(0, places.flatten()).view(pixels.shape)
    # With its highest bit turned, a byte is x - 128 in two's complement.
    centred = vectors.bitwise_xor_(128).view(torch.int8)
    return centred.to(dtype).mul_(1.0 / 128.0)


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

"""What each operation computes, in plain PyTorch and float32: the twin that tests hold the fast
backends against, and the backend of last resort on any device.

All functions take the arguments of the registered operations of the same name.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch

CENTRE = 128.0


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of pairs ``(i, i + head_dim // 2)``, in float32.

    Args:
        x: ``[tokens, heads, head_dim]``.
        cos: ``[tokens, head_dim // 2]``; ``sin`` alike.
    """
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = cos.float()[:, None], sin.float()[:, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def window_attention(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor,
    max_seqlen: int,
) -> torch.Tensor:
    """Attention within segments of the sequence, with rotary embedding of queries and keys.

    Args:
        qkv: ``[tokens, 3, heads, head_dim]``.
        cos: float32 ``[tokens, head_dim // 2]``; ``sin`` alike.
        cu_seqlens: int32 ``[segments + 1]``, cumulative tokens, where segments begin and end.
        max_seqlen: Tokens of the longest segment.

    Returns:
        ``[tokens, heads * head_dim]`` in the dtype of ``qkv``. The softmax scale is
        ``head_dim ** -0.5``.
    """
    query, key = rotate(qkv[:, 0], cos, sin), rotate(qkv[:, 1], cos, sin)
    value = qkv[:, 2].float()
    context = torch.empty_like(value)
    ends = cu_seqlens.tolist()
    for start, end in pairwise(ends):
        segment = slice(start, end)
        scores = torch.einsum("qhd,khd->hqk", query[segment], key[segment]) * qkv.shape[-1] ** -0.5
        context[segment] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), value[segment])
    return context.flatten(1).to(qkv.dtype)


def full_attention(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor,
    max_seqlen: int,
) -> torch.Tensor:
    """As `window_attention`, for segments of any length. Other backends may overwrite ``qkv``."""
    return window_attention(qkv, cos, sin, cu_seqlens, max_seqlen)


def mrope(
    query: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor,
    cos_sin_cache: torch.Tensor,
    head_dim: int,
    sections: Sequence[int],
    interleaved: bool,
) -> None:
    """Multimodal rotary embedding of the language model, in place (Qwen2-VL report, section 2.1).

    Args:
        query: ``[tokens, heads * head_dim]``, rows may be apart.
        key: ``[tokens, kv_heads * head_dim]``, rows may be apart.
        positions: int64 ``[3, tokens]``: time, row, column.
        cos_sin_cache: ``[positions, head_dim]``: cosines, then sines.
        head_dim: Of a head; all of it is rotated.
        sections: How many of the ``head_dim // 2`` pairs turn with time, row, column.
        interleaved: Pairs take turns (time, row, column, time, ...) instead of lying in blocks;
            what is left over at the end turns with time.
    """
    half = head_dim // 2
    pairs = torch.arange(half, device=positions.device)
    if interleaved:
        axis = pairs % 3
        axis[(axis == 1) & (pairs >= 3 * sections[1])] = 0
        axis[(axis == 2) & (pairs >= 3 * sections[2])] = 0
    else:
        axis = torch.bucketize(pairs, pairs.new_tensor(sections).cumsum(0)[:2], right=True)
    places = positions[axis].T  # [tokens, half]
    cos, sin = cos_sin_cache[places, pairs], cos_sin_cache[places, pairs + half]
    for x in (query, key):
        heads = x.view(len(x), x.shape[1] // head_dim, head_dim)
        heads.copy_(rotate(heads, cos, sin))


def patch_input(
    pixels: torch.Tensor,
    unit_offsets: torch.Tensor,
    row_bytes: torch.Tensor,
    frame_bytes: torch.Tensor,
    patch_size: int,
    merge_size: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Cut rasters into patch vectors, in the order of the sequence, as centred numbers.

    Args:
        pixels: uint8 ``[patches, frames * patch_size**2 * 3]``: the rasters
            ``[frames, height, width, 3]`` of all media, one after another, in memory order.
        unit_offsets: int64 ``[units]``: where in ``pixels`` the unit of ``merge_size**2`` patches
            that stands at each place of the sequence begins, in bytes.
        row_bytes: int64 ``[units]``: bytes of a row of pixels of the unit's raster.
        frame_bytes: int64 ``[units]``: bytes of a frame of the unit's raster.
        patch_size: Side of a patch in pixels.
        merge_size: Side of a merge unit in patches.
        dtype: Of the result.

    Returns:
        ``[patches, frames * patch_size**2 * 3]``, each ``(x - 128) / 128``, which is exact in
        bfloat16 and float16. A patch vector is ordered (frame, row, column, channel).
    """
    step = 3 * patch_size  # bytes of a row of a patch
    frames = pixels.shape[1] // (step * patch_size)
    rows = torch.arange(merge_size * patch_size, device=pixels.device)
    columns = torch.arange(merge_size, device=pixels.device) * step
    each = torch.arange(frames, device=pixels.device)
    # Where each row of each patch begins: [units, unit row and row, unit column, frame]
    starts = (
        unit_offsets[:, None, None, None]
        + (row_bytes[:, None] * rows)[:, :, None, None]
        + columns[:, None]
        + (frame_bytes[:, None] * each)[:, None, None]
    )
    # [units, unit row, unit column, frame, row]
    starts = starts.view(-1, merge_size, patch_size, *starts.shape[2:]).permute(0, 1, 3, 4, 2)
    vectors = pixels.flatten().unfold(0, step, 1)[starts.reshape(-1)]
    return centre_pixels(vectors.view(-1, pixels.shape[1]), dtype)


def centre_pixels(pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """uint8 to ``(x - 128) / 128``, exact for float16, bfloat16 and float32."""
    return pixels.to(dtype).sub_(CENTRE).mul_(1.0 / CENTRE)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """``x / sqrt(mean(x**2) + eps) * weight`` over the last dimension, rounded once.

    Args:
        x: ``[..., hidden]``.
        weight: ``[hidden]``.
        eps: Added to the mean square.
    """
    wide = x.float()
    normed = wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt() * weight.float()
    return normed.to(x.dtype)


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """``silu(gate) * up`` of ``[..., 2 * size]``, gates first, rounded once to ``[..., size]``."""
    gate, up = x.float().chunk(2, dim=-1)
    return (torch.nn.functional.silu(gate) * up).to(x.dtype)


def resize(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Antialiased bicubic resize of uint8 ``[N, H, W, C]`` to ``[N, height, width, C]``."""
    resized = torch.nn.functional.interpolate(
        pixels.permute(0, 3, 1, 2),  # a view that is torch's channels_last: no copy
        size=(height, width),
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )
    return resized.permute(0, 2, 3, 1).contiguous()


def map_colours(pixels: torch.Tensor, table: torch.Tensor) -> None:
    """Looks colours up by the leading bits of their channels, in place.

    Args:
        pixels: uint8 ``[H, W, 3]``.
        table: uint8 ``[N, N, N, 4]``, N a power of two; the last byte of an entry is not looked at.
    """
    red, green, blue = (pixels >> (8 - (len(table).bit_length() - 1))).int().unbind(-1)
    index = (red * len(table) + green) * len(table) + blue
    entries = table.view(torch.int32).view(-1).index_select(0, index.view(-1))
    pixels.copy_(entries.view(torch.uint8).view(*index.shape, 4)[..., :3])


def merge_input(
    x: torch.Tensor, weight: torch.Tensor, eps: float, unit_order: torch.Tensor, unit: int
) -> torch.Tensor:
    """RMSNorm of patches, and the units they make put back in raster order.

    Args:
        x: ``[patches, hidden]`` in the order of the sequence.
        weight: ``[hidden]``.
        eps: Added to the mean square.
        unit_order: int64 ``[units]``: the unit in raster order that stands at each place.
        unit: Patches of a unit.

    Returns:
        ``[units, unit * hidden]`` in the dtype of ``x``, rounded once.
    """
    units = rms_norm(x, weight, eps).view(len(unit_order), -1)
    return torch.empty_like(units).index_copy_(0, unit_order, units)

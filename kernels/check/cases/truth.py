"""What each operation should make, in float64 and written out from definitions; and attention as
PyTorch code in a narrower format makes it, which tolerances are derived from.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch

_QUERIES = 256  # at once: their float64 scores fit memory


def relative_error(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Length of the difference over the length of the truth; NaN if a number is.

    Where the truth is 0, the difference is 0 or infinitely large beside it.
    """
    truth = truth.double()
    difference = (found.double() - truth).norm()
    return float(difference / truth.norm()) if difference != 0 else 0.0


def half_steps(exact: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Half the distance of neighbours in ``dtype`` around each number: what rounding it once may
    cost. float64."""
    info = torch.finfo(dtype)
    _, exponents = exact.abs().clamp(min=info.tiny).frexp()  # magnitude in [0.5, 1) * 2**exponent
    return torch.ldexp(torch.full_like(exact, info.eps / 4), exponents)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of pairs ``(i, i + head_dim // 2)``, in the format of the angles.

    Args:
        x: ``[tokens, ..., head_dim]``.
        cos: ``[tokens, head_dim // 2]``; ``sin`` alike.
    """
    shape = (len(cos), *[1] * (x.ndim - 2), cos.shape[1])
    cos, sin = cos.view(shape), sin.view(shape)
    first, second = x.to(cos.dtype).chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def exact_attention(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cu_seqlens: Sequence[int]
) -> torch.Tensor:
    """Rotary embedding and attention within segments, in float64.

    Args:
        qkv: ``[tokens, 3, heads, head_dim]``.
        cos: ``[tokens, head_dim // 2]``; ``sin`` alike.
        cu_seqlens: Cumulative tokens, where segments begin and end.

    Returns:
        ``[tokens, heads * head_dim]``; zero for tokens of no segment.
    """
    query, key = rotate(qkv[:, :2], cos.double(), sin.double()).unbind(1)
    value = qkv[:, 2].double()
    context = torch.zeros_like(value)
    for some, segment in _pieces(cu_seqlens):
        scores = torch.einsum("qhd,khd->hqk", query[some], key[segment])
        weights = (scores * qkv.shape[-1] ** -0.5).softmax(-1)
        context[some] = torch.einsum("hqk,khd->qhd", weights, value[segment])
    return context.flatten(1)


def rounded_attention(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: Sequence[int],
    products: torch.dtype,
) -> torch.Tensor:
    """As `exact_attention`, by PyTorch in the format of ``qkv``: what rounding costs at least.

    Rotation and softmax are float32; queries, keys, weights and results are rounded.

    Args:
        products: What products of matrices are computed in. In the format of ``qkv`` this is
            Hugging Face's ``eager_attention_forward``; wider, the digits of scores are kept, which
            about halves the error.
    """
    query, key = (
        part.to(qkv.dtype).to(products) for part in rotate(qkv[:, :2], cos, sin).unbind(1)
    )
    value = qkv[:, 2].to(products)
    context = torch.zeros_like(qkv[:, 0])
    for some, segment in _pieces(cu_seqlens):
        # [heads, tokens, head_dim]
        queries, keys, values = (
            part.transpose(0, 1) for part in (query[some], key[segment], value[segment])
        )
        scores = queries @ keys.transpose(1, 2) * qkv.shape[-1] ** -0.5
        weights = scores.softmax(-1, dtype=torch.float32).to(qkv.dtype).to(products)
        context[some] = (weights @ values).transpose(0, 1).to(qkv.dtype)
    return context.flatten(1)


def _pieces(cu_seqlens: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """Some queries, and the segment in which they are."""
    for start, end in pairwise(cu_seqlens):
        for first in range(start, end, _QUERIES):
            yield slice(first, min(first + _QUERIES, end)), slice(start, end)


def pair_axes(sections: Sequence[int], interleaved: bool) -> list[int]:
    """Which of time (0), row (1) and column (2) each pair of a head turns with."""
    time, row, column = sections
    if not interleaved:
        return [0] * time + [1] * row + [2] * column
    axes = [0] * sum(sections)
    axes[1 : 3 * row : 3] = [1] * len(axes[1 : 3 * row : 3])
    axes[2 : 3 * column : 3] = [2] * len(axes[2 : 3 * column : 3])
    return axes


def exact_mrope(
    x: torch.Tensor,
    positions: torch.Tensor,
    cache: torch.Tensor,
    sections: Sequence[int],
    interleaved: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Multimodal rotary embedding, and the sum of the magnitudes of each number's two products,
    which bounds what float32 may err. Both float64, in the shape of ``x``.

    Args:
        x: ``[tokens, heads * head_dim]``; other arguments as of `reference.mrope`.
    """
    axes = torch.tensor(pair_axes(sections, interleaved), device=x.device)
    places = positions[axes].T  # [tokens, pairs]
    pairs = torch.arange(len(axes), device=x.device)
    cos = cache[places, pairs].double()[:, None]
    sin = cache[places, pairs + len(axes)].double()[:, None]
    first, second = (
        x.double().reshape(len(x), x.shape[1] // (2 * len(axes)), 2, len(axes)).unbind(2)
    )
    turned = torch.stack((first * cos - second * sin, second * cos + first * sin), dim=2)
    sizes = (
        (first * cos).abs() + (second * sin).abs(),
        (second * cos).abs() + (first * sin).abs(),
    )
    return turned.flatten(1), torch.stack(sizes, dim=2).flatten(1)


def exact_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm in float64."""
    wide = x.double()
    return wide / (wide.square().mean(-1, keepdim=True) + eps).sqrt() * weight.double()

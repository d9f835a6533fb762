"""Packed queries, keys and values to test attention with, and what should become of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

import torch

from saccade.kernels.check.cases.truth import exact_attention, rotate, rounded_attention

GUARD = 130  # rows before and after each tensor in the same memory, more than a program's tile
UNTOUCHED = 768.0  # what outputs are filled with; a kernel that reads guards would write NaN


@dataclass
class Sample:
    """Arguments of an attention, by name."""

    qkv: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    cu_seqlens: torch.Tensor
    max_seqlen: int


def guarded(tensor: torch.Tensor, value: float = torch.nan) -> torch.Tensor:
    """The same numbers in memory that has ``value`` before and after them."""
    memory = tensor.new_full((len(tensor) + 2 * GUARD, *tensor.shape[1:]), value)
    inside = memory[GUARD:-GUARD]
    inside.copy_(tensor)
    return inside


def guards(tensor: torch.Tensor) -> torch.Tensor:
    """What now stands around a `guarded` tensor."""
    memory = tensor._base
    return torch.cat((memory[:GUARD], memory[-GUARD:]))


def draw(lengths, heads, head_dim, dtype=torch.float32, *, before=0, after=0, size=1.0, seed=0):
    """Segments of these lengths; ``before`` and ``after`` them tokens of no segment, which are NaN.

    Args:
        size: Of queries and keys, as a standard deviation.
    """
    generator = torch.Generator().manual_seed(seed)
    cu_seqlens = list(accumulate(lengths, initial=before))
    tokens = cu_seqlens[-1] + after
    qkv = torch.randn(tokens, 3, heads, head_dim, generator=generator)
    qkv[:, :2] *= size
    angles = torch.rand(tokens, head_dim // 2, generator=generator) * 20 - 10
    angles[:before] = angles[cu_seqlens[-1] :] = torch.nan
    qkv[:before] = qkv[cu_seqlens[-1] :] = torch.nan
    return Sample(
        guarded(qkv.to(dtype)),
        guarded(angles.cos()),
        guarded(angles.sin()),
        torch.tensor(cu_seqlens, dtype=torch.int32),
        max(lengths, default=0),
    )


def attend_exactly(sample: Sample) -> torch.Tensor:
    """Attention in float64, ``[tokens, heads * head_dim]``; zero for tokens of no segment."""
    return exact_attention(sample.qkv, sample.cos, sample.sin, sample.cu_seqlens.tolist())


def attend_eagerly(sample: Sample, products: torch.dtype) -> torch.Tensor:
    """Attention by PyTorch in the sample's dtype, with rotation and softmax in float32."""
    return rounded_attention(
        sample.qkv, sample.cos, sample.sin, sample.cu_seqlens.tolist(), products
    )


def rotate_exactly(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding in float64 of ``[tokens, heads, head_dim]``."""
    return rotate(x, cos.double(), sin.double())


def assert_close(found: torch.Tensor, sample: Sample, exact: torch.Tensor) -> None:
    """float32: the error is at most 2e-6 of the largest value. 16 bits: its maximum is at most
    1.25 times that of PyTorch code in the dtype, its mean that of such code with float32 scores.
    """
    inside = slice(sample.cu_seqlens[0].item(), sample.cu_seqlens[-1].item())
    error = (found.double() - exact)[inside].abs()
    if found.dtype == torch.float32:
        assert error.max() <= 2e-6 * exact.abs().max()
        return
    rounded = (attend_eagerly(sample, found.dtype).double() - exact)[inside].abs()
    wide = (attend_eagerly(sample, torch.float32).double() - exact)[inside].abs()
    assert error.max() <= 1.25 * rounded.max()
    assert error.mean() <= 1.25 * wide.mean()


@contextmanager
def prepared_output(sample: Sample) -> Iterator[torch.Tensor]:
    """What `Tensor.new_empty` returns for the result of this sample: `UNTOUCHED`, guards too."""
    out = guarded(torch.full_like(sample.qkv[:, 0].flatten(1), UNTOUCHED), UNTOUCHED)
    new_empty = torch.Tensor.new_empty

    def prepared(self, *sizes, **options):
        return out if sizes == out.shape else new_empty(self, *sizes, **options)

    torch.Tensor.new_empty = prepared
    try:
        yield out
    finally:
        torch.Tensor.new_empty = new_empty


def refused_arguments() -> list[tuple[dict[str, object], type[Exception], str]]:
    """Changes to ``draw([3], 2, 80)``, and what a launcher says of each."""
    return [
        ({"qkv": torch.zeros(3, 3, 2, 80).double()}, TypeError, "qkv is torch.float64"),
        ({"qkv": torch.zeros(3, 480)}, ValueError, r"qkv is \[3, 480\]"),
        ({"qkv": torch.zeros(3, 2, 2, 80)}, ValueError, r"qkv is \[3, 2, 2, 80\]"),
        ({"qkv": torch.zeros(3, 3, 2, 79)}, ValueError, "qkv .* even head_dim"),
        ({"qkv": torch.zeros(3, 3, 0, 80)}, ValueError, "qkv .* must have heads"),
        ({"qkv": torch.zeros(3, 3, 80, 2).mT}, ValueError, "qkv has strides"),
        ({"qkv": torch.zeros(3, 3, 4, 80)[:, :, ::2]}, ValueError, "qkv has strides"),
        ({"cos": torch.zeros(3, 40).bfloat16()}, TypeError, "cos is torch.bfloat16"),
        ({"cos": torch.zeros(3, 80)}, ValueError, r"cos is \[3, 80\].*\[3, 40\]"),
        ({"cos": torch.zeros(40, 3).T}, ValueError, "cos has strides"),
        ({"cos": torch.zeros(3, 40, device="meta")}, ValueError, "cos is on meta"),
        ({"sin": torch.zeros(3, 40).half()}, TypeError, "sin is torch.float16"),
        ({"sin": torch.zeros(4, 40)}, ValueError, r"sin is \[4, 40\].*\[3, 40\]"),
        ({"cu_seqlens": torch.tensor([0, 3])}, TypeError, "cu_seqlens is torch.int64"),
        ({"cu_seqlens": torch.zeros(1, 2).int()}, ValueError, r"cu_seqlens is \[1, 2\]"),
        ({"cu_seqlens": torch.zeros(0).int()}, ValueError, "cu_seqlens is empty"),
        ({"cu_seqlens": torch.zeros(4).int()[::2]}, ValueError, "cu_seqlens has strides"),
        ({"cu_seqlens": torch.zeros(2, device="meta").int()}, ValueError, "cu_seqlens is on meta"),
    ]

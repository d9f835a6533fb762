"""What the attention kernels assume of their arguments, checked before a launch."""

import torch

from .arguments import check_beside, check_contiguous, check_dtype, check_number, check_shape


def check_attention(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cu_seqlens: torch.Tensor
) -> None:
    """Refuse what a kernel would misread; arguments as of `reference.window_attention`.

    Raises:
        TypeError: a dtype is another than the kernels know.
        ValueError: a shape, stride or device does not fit.
    """
    check_packed(qkv)
    check_angles(cos, sin, qkv)
    check_cu_seqlens(cu_seqlens, qkv)


def check_packed(qkv: torch.Tensor) -> None:
    """Queries, keys and values side by side; raises as `check_attention`."""
    check_number("qkv", qkv)
    check_shape("qkv", qkv, "[tokens, 3, heads, head_dim]", (None, 3, None, None))
    if qkv.shape[2] == 0 or qkv.shape[3] == 0 or qkv.shape[3] % 2:
        raise ValueError(
            f"qkv is {list(qkv.shape)}; it must have heads, and an even head_dim for the rotary"
            " embedding's pairs"
        )
    check_contiguous("qkv", qkv)


def check_angles(cos: torch.Tensor, sin: torch.Tensor, qkv: torch.Tensor) -> None:
    """Cosines and sines of each of ``qkv``'s tokens; raises as `check_attention`."""
    for name, angles in (("cos", cos), ("sin", sin)):
        check_dtype(name, angles, [torch.float32])
        expected = (qkv.shape[0], qkv.shape[3] // 2)
        check_shape(name, angles, "[tokens, head_dim // 2]", expected)
        check_beside(name, angles, "qkv", qkv)
        check_contiguous(name, angles)


def check_cu_seqlens(cu_seqlens: torch.Tensor, qkv: torch.Tensor) -> None:
    """A list of int32 beside ``qkv``; raises as `check_attention`."""
    check_dtype("cu_seqlens", cu_seqlens, [torch.int32])
    check_shape("cu_seqlens", cu_seqlens, "[segments + 1]", (None,))
    if len(cu_seqlens) == 0:
        raise ValueError(
            "cu_seqlens is empty; it must be [segments + 1], and [0] where there are none"
        )
    check_beside("cu_seqlens", cu_seqlens, "qkv", qkv)
    check_contiguous("cu_seqlens", cu_seqlens)

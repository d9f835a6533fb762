"""Checks of launchers' arguments: each names the argument, says what it is and what it must be.

Only what the CPU knows is checked: to look at values would wait for the device.
"""

from collections.abc import Collection, Sequence

import torch

from .tuning import TYPE_NAMES


def check_dtype(name: str, tensor: torch.Tensor, allowed: Collection[torch.dtype]) -> None:
    """Raises TypeError."""
    if tensor.dtype not in allowed:
        names = [str(dtype).removeprefix("torch.") for dtype in allowed]
        raise TypeError(f"{name} is {tensor.dtype}; it must be {' or '.join(names)}")


def check_number(name: str, tensor: torch.Tensor) -> None:
    """One of the formats that kernels compute with; raises TypeError."""
    check_dtype(name, tensor, TYPE_NAMES)


def check_shape(
    name: str, tensor: torch.Tensor, words: str, expected: Sequence[int | None]
) -> None:
    """``None`` allows any size; raises ValueError.

    Args:
        words: The shape in words, such as ``[tokens, hidden]``.
    """
    sizes = list(tensor.shape)
    fits = len(sizes) == len(expected) and all(
        wanted is None or size == wanted for size, wanted in zip(sizes, expected, strict=True)
    )
    if not fits:
        known = ", ".join("any" if size is None else str(size) for size in expected)
        raise ValueError(f"{name} is {sizes}; it must be {words}, here [{known}]")


def check_beside(name: str, tensor: torch.Tensor, other_name: str, other: torch.Tensor) -> None:
    """On the same device; raises ValueError."""
    if tensor.device != other.device:
        raise ValueError(
            f"{name} is on {tensor.device}; it must be on {other.device}, as {other_name} is"
        )


def check_contiguous(name: str, tensor: torch.Tensor) -> None:
    """Raises ValueError."""
    if not tensor.is_contiguous():
        raise ValueError(f"{name} has strides {tensor.stride()}; it must be contiguous")


def check_rows(name: str, tensor: torch.Tensor) -> None:
    """Each row of a matrix without gaps, the rows wherever they are; raises ValueError."""
    if tensor.shape[1] > 1 and tensor.stride(1) != 1:
        raise ValueError(f"{name} has strides {tensor.stride()}; its rows must be without gaps")


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

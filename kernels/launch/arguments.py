"""Checks that launchers share: each names the argument, says what it is and what it must be.

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

"""vLLM as a baseline, where it can be imported; nothing where it cannot.

It is found here and not plugged in from outside, so that `python -m saccade.kernels.check` and
`saccade bench kernels` are one thing. `contenders.vllm`, the one module of `kernels/` that imports
vLLM, is imported in here and nowhere else.
"""

import functools
import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from types import ModuleType

import torch

from ..cases.case import Contender


@functools.cache
def _find() -> tuple[ModuleType | None, str]:
    """The module of contenders, and what is known of vLLM here."""
    if find_spec("vllm") is None:
        return None, "not compared: it is not installed"
    try:
        found = importlib.import_module(".vllm", __package__)
        with found.eager_vllm():
            pass
    except Exception as error:  # of another version, or built for other libraries than these
        first = str(error).partition("\n")[0]
        return None, f"not compared: {type(error).__name__}: {first}"
    return found, "compared, its layers in eager mode"


def state() -> str:
    """For people: is vLLM compared, and if not, why?"""
    return _find()[1]


def eager_vllm() -> AbstractContextManager[None]:
    """What contenders of vLLM have to be made and called in."""
    found, _ = _find()
    return found.eager_vllm() if found is not None else nullcontext()


def find_flash_attention(device_type: str, head_dim: int) -> Callable[..., torch.Tensor] | None:
    """vLLM's, as a model finds it, for `full_attention.provide_flash_attention`."""
    found = _find()[0] if device_type == "cuda" else None
    return None if found is None else found.find_flash_attention(head_dim)


def attention(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cu_seqlens: Sequence[int], moved: int
) -> list[Contender]:
    """``Qwen2_5_VisionAttention`` between its projections."""
    found, _ = _find()
    return [] if found is None else found.attention(qkv, cos, sin, cu_seqlens, moved)


def mrope(
    query: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor,
    cache: torch.Tensor,
    head_dim: int,
    sections: Sequence[int],
    moved: int,
) -> list[Contender]:
    """``MRotaryEmbedding``, sections in blocks."""
    found, _ = _find()
    if found is None:
        return []
    return found.mrope(query, key, positions, cache, head_dim, sections, moved)


def patch_input(
    raster: torch.Tensor, unit_order: torch.Tensor, patch: int, merge: int, dtype: torch.dtype
) -> list[Contender]:
    """The image processor, told to run on the GPU; by default it is on the CPU."""
    found, _ = _find()
    return [] if found is None else found.patch_input(raster, unit_order, patch, merge, dtype)


def merge_input(
    x: torch.Tensor, weight: torch.Tensor, eps: float, unit_order: torch.Tensor, width: int
) -> list[Contender]:
    """vLLM's norm, and its reordering of tokens, which it does after the merger's products."""
    found, _ = _find()
    return [] if found is None else found.merge_input(x, weight, eps, unit_order, width)

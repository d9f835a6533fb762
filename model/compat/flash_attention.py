"""vLLM's FlashAttention, for the tower's full attention on CUDA."""

import functools
from collections.abc import Callable
from typing import Any

import torch


@functools.cache
def find_flash_attention(device_type: str, head_dim: int) -> Callable[..., Any] | None:
    """vLLM's FlashAttention in the version that vLLM itself would take here, or None.

    Imported from within vLLM, which builds it and chooses the version by device: a public function
    of its layers that takes ``cu_seqlens`` would do instead.
    """
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

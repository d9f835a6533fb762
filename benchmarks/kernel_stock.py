"""What vLLM itself does where we have a kernel, from its own layers, in its eager mode.

Eager (``--enforce-eager``) because there each of its layers runs vLLM's own kernel. Where Inductor
compiles the language model it fuses the rotary embedding too, and ours has next to nothing to gain.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from vllm.config import CompilationConfig, CompilationMode, VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.attention.mm_encoder_attention import MMEncoderAttention
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.rotary_embedding.common import ApplyRotaryEmb
from vllm.model_executor.layers.rotary_embedding.mrope import MRotaryEmbedding
from vllm.utils.torch_utils import set_default_torch_dtype

ROPE_THETA = 1e6  # of the language models


@contextmanager
def eager_vllm() -> Iterator[None]:
    """vLLM's layers, made and called in here, are those of its eager mode."""
    config = VllmConfig(compilation_config=CompilationConfig(mode=CompilationMode.NONE))
    with set_current_vllm_config(config), config.kernel_config.ir_op_priority.set_priority():
        yield


class StockAttention:
    """``Qwen2_5_VisionAttention`` between its projections.

    Args:
        borders: int32 ``[runs + 1]``, cumulative tokens.
    """

    def __init__(
        self,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        borders: npt.NDArray[np.int32],
        device: torch.device,
    ) -> None:
        with set_default_torch_dtype(dtype):
            self.attend = MMEncoderAttention(heads, head_dim, head_dim**-0.5)
        self.rotate = ApplyRotaryEmb(enforce_enable=True)
        backend = self.attend.attn_backend
        longest = MMEncoderAttention.compute_max_seqlen(backend, borders)
        self.runs: dict[str, Any] = {
            "cu_seqlens": MMEncoderAttention.maybe_recompute_cu_seqlens(
                backend, borders, heads * head_dim, 1, device
            ),
            # On the host, as vLLM has it.
            "max_seqlen": torch.tensor(longest, dtype=torch.int32),
            "sequence_lengths": MMEncoderAttention.maybe_compute_seq_lens(backend, borders, device),
        }

    @property
    def backend(self) -> str:
        """Which attention vLLM chose."""
        name: str = self.attend.attn_backend.name
        return name

    def __call__(self, qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """``[tokens, 3, heads, head_dim]`` to ``[tokens, heads * head_dim]``.

        Args:
            cos: ``[tokens, head_dim // 2]`` in the dtype of ``qkv``; ``sin`` alike.
        """
        both = qkv[:, :2].transpose(0, 1).contiguous()  # [2, tokens, heads, head_dim]
        query, key = self.rotate(both, cos, sin)[:, None].unbind(0)
        context: torch.Tensor = self.attend(query, key, qkv[None, :, 2], **self.runs)
        return context[0].flatten(1).contiguous()


class StockMRope:
    """``MRotaryEmbedding`` of the language model; on a GPU it overwrites its arguments.

    Args:
        positions: Rows of the cache, a multiple of 4.
    """

    def __init__(
        self,
        head_dim: int,
        positions: int,
        dtype: torch.dtype,
        sections: Sequence[int],
        device: torch.device,
    ) -> None:
        # A plugin may have put its own class in this one's place: vLLM's way is called by name.
        self.layer = MRotaryEmbedding(
            head_dim, head_dim, positions // 4, ROPE_THETA, True, dtype, list(sections)
        ).to(device)
        self.forward = (
            MRotaryEmbedding.forward_cuda
            if device.type == "cuda"
            else MRotaryEmbedding.forward_native
        )

    @property
    def cache(self) -> torch.Tensor:
        """``[positions, head_dim]``."""
        cache: torch.Tensor = self.layer.cos_sin_cache
        return cache

    def __call__(
        self, positions: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found: tuple[torch.Tensor, torch.Tensor] = self.forward(self.layer, positions, query, key)
        return found


class StockPatchInput:
    """What the image processor does on the device it is told to use, and vLLM's rounding after it.

    From uint8 channels first, which the processor makes on the host, to normalised patch vectors
    in raster order, each with its pixels twice. Rescaling is part of mean and deviation. Follows
    transformers' ``Qwen2VLImageProcessor``; torchvision's check for deviations of 0, which waits
    for the device, is left out.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.mean = (torch.tensor(mean, device=device) * 255).view(3, 1, 1)
        self.std = (torch.tensor(std, device=device) * 255).view(3, 1, 1)
        self.dtype = dtype

    def __call__(self, picture: torch.Tensor, patch: int, merge: int) -> torch.Tensor:
        """``[3, height, width]`` to ``[patches, 3 * 2 * patch * patch]``."""
        normalised = picture.to(torch.float32).sub_(self.mean).div_(self.std)
        _, height, width = picture.shape
        down, across = height // patch // merge, width // patch // merge
        tiles = normalised.view(3, down, merge, patch, across, merge, patch)
        # [down, across, merge, merge, 3, patch, patch]
        patches = tiles.permute(1, 4, 2, 5, 0, 3, 6)
        twice = patches.unsqueeze(5).expand(*patches.shape[:5], 2, patch, patch)
        return twice.reshape(-1, 6 * patch * patch).to(self.dtype)


class StockMergeInput:
    """The merger's norm, and the tokens put back in raster order after its products."""

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        self.norm = RMSNorm(len(weight), eps, dtype=weight.dtype).to(weight.device)
        self.norm.weight.data.copy_(weight)

    def __call__(
        self, x: torch.Tensor, tokens: torch.Tensor, places: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``[patches, hidden]`` normed, and ``[units, width]`` of the language model ordered."""
        return self.norm(x), tokens[places]

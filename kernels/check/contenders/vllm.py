"""What vLLM itself does where we have a kernel, from its own layers, in its eager mode.

Eager (``--enforce-eager``) because there each of its layers runs vLLM's own kernel. Where Inductor
compiles the language model it fuses the rotary embedding too, and ours has next to nothing to gain.

Imports vLLM's insides, as nothing else in `kernels/` does: a contender is whatever vLLM runs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
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

from ..cases.case import Contender

# Of the published image processors.
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@contextmanager
def eager_vllm() -> Iterator[None]:
    """vLLM's layers, made and called in here, are those of its eager mode."""
    config = VllmConfig(compilation_config=CompilationConfig(mode=CompilationMode.NONE))
    with set_current_vllm_config(config), config.kernel_config.ir_op_priority.set_priority():
        yield


class StockAttention:
    """``Qwen2_5_VisionAttention`` between its projections.

    Args:
        cu_seqlens: int32 ``[segments + 1]``, cumulative tokens.
    """

    def __init__(
        self,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        cu_seqlens: npt.NDArray[np.int32],
        device: torch.device,
    ) -> None:
        with set_default_torch_dtype(dtype):
            self.attend = MMEncoderAttention(heads, head_dim, head_dim**-0.5)
        self.rotate = ApplyRotaryEmb(enforce_enable=True)
        backend = self.attend.attn_backend
        max_seqlen = MMEncoderAttention.compute_max_seqlen(backend, cu_seqlens)
        self.segments: dict[str, Any] = {
            "cu_seqlens": MMEncoderAttention.maybe_recompute_cu_seqlens(
                backend, cu_seqlens, heads * head_dim, 1, device
            ),
            # On the host, as vLLM has it.
            "max_seqlen": torch.tensor(max_seqlen, dtype=torch.int32),
            "sequence_lengths": MMEncoderAttention.maybe_compute_seq_lens(
                backend, cu_seqlens, device
            ),
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
        context: torch.Tensor = self.attend(query, key, qkv[None, :, 2], **self.segments)
        return context[0].flatten(1).contiguous()


@cache
def find_flash_attention(head_dim: int) -> Callable[..., torch.Tensor] | None:
    """vLLM's FlashAttention on CUDA, or None: the same as `saccade.model.compat` finds."""
    if torch.version.hip:
        return None
    try:
        from vllm.v1.attention.backends.fa_utils import get_flash_attn_version
        from vllm.vllm_flash_attn import flash_attn_varlen_func
    except ImportError:
        return None
    version = get_flash_attn_version(head_size=head_dim)
    return None if version is None else partial(flash_attn_varlen_func, fa_version=version)


def attention(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cu_seqlens: Sequence[int], moved: int
) -> list[Contender]:
    """Its back end is in the name: vLLM chooses it."""
    narrow = (cos.to(qkv.dtype), sin.to(qkv.dtype))
    ends = np.array(cu_seqlens, dtype=np.int32)
    try:
        stock = StockAttention(qkv.shape[2], qkv.shape[3], qkv.dtype, ends, qkv.device)
    except Exception as error:  # told where the contender is made
        reason = error
        return [Contender("vLLM", lambda: _raise(reason))]
    name = f"vLLM {stock.backend}"
    return [Contender(name, lambda: partial(stock, qkv, *narrow), bytes=moved)]


def _raise(error: Exception) -> Callable[[], object]:
    raise error


def mrope(
    query: torch.Tensor,
    key: torch.Tensor,
    positions: torch.Tensor,
    cache: torch.Tensor,
    head_dim: int,
    sections: Sequence[int],
    moved: int,
) -> list[Contender]:
    """On a GPU vLLM overwrites queries and keys, as we do."""

    def make() -> Callable[[], object]:
        # Made small: its angles are replaced by those that all are given.
        layer = MRotaryEmbedding(head_dim, head_dim, 4, 1e6, True, query.dtype, list(sections))
        layer = layer.to(query.device)
        layer.cos_sin_cache = cache
        # A plugin may have put its own class in this one's place: vLLM's way is called by name.
        on_gpu = query.device.type == "cuda"
        forward = MRotaryEmbedding.forward_cuda if on_gpu else MRotaryEmbedding.forward_native
        return partial(forward, layer, positions, query.clone(), key.clone())

    def result(made: Any) -> torch.Tensor:
        return torch.cat(made, 1)

    return [Contender("vLLM", make, result, moved)]


def patch_input(
    raster: torch.Tensor, unit_order: torch.Tensor, patch: int, merge: int, dtype: torch.dtype
) -> list[Contender]:
    """Its vectors are normalised, channels first and in raster order: brought into ours before
    they are compared."""

    def make() -> Callable[[], object]:
        processor = StockPatchInput(_MEAN, _STD, dtype, raster.device)
        return partial(processor, raster.permute(2, 0, 1).contiguous(), patch, merge)

    def result(made: Any) -> torch.Tensor:
        pixels = made.double().view(-1, 3, 2, patch, patch)[:, :, 0].permute(0, 2, 3, 1)
        pixels = (pixels * pixels.new_tensor(_STD) + pixels.new_tensor(_MEAN)) * 255
        units = ((pixels - 128) / 128).reshape(len(unit_order), -1)
        return units[unit_order].view(len(made), -1)

    return [Contender("vLLM's image processor", make, result)]


def merge_input(
    x: torch.Tensor, weight: torch.Tensor, eps: float, unit_order: torch.Tensor, width: int
) -> list[Contender]:
    """Normed patches, and as many tokens of the language model reordered."""

    def make() -> Callable[[], object]:
        stock = StockMergeInput(weight, eps)
        return partial(stock, x, x.new_zeros(len(unit_order), width), unit_order.argsort())

    def result(made: Any) -> torch.Tensor:
        return made[0].view(len(unit_order), -1)[unit_order.argsort()]

    return [Contender("vLLM", make, result)]


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

    def __call__(self, image: torch.Tensor, patch: int, merge: int) -> torch.Tensor:
        """``[3, height, width]`` to ``[patches, 3 * 2 * patch * patch]``."""
        normalised = image.to(torch.float32).sub_(self.mean).div_(self.std)
        _, height, width = image.shape
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

"""The one place in `model/` that touches vLLM's unstable insides. Checked on vLLM 0.32.0.

Everything else in the package uses vLLM's model-author interface: parallel layers, model
protocols, the multimodal processor's base classes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from vllm.config import VllmConfig
from vllm.model_executor.layers.attention import MMEncoderAttention
from vllm.model_executor.models.vision import (
    get_fp8_padded_hidden_size,
    get_vit_attn_backend,
    is_vit_use_data_parallel,
    run_dp_sharded_mrope_vision_model,
)
from vllm.utils.torch_utils import async_tensor_h2d

__all__ = [
    "AttentionSpans",
    "EncoderAttentionLayout",
    "MMEncoderAttention",
    "async_tensor_h2d",
    "is_vit_use_data_parallel",
    "refuse_unsupported",
    "run_dp_sharded_mrope_vision_model",
]


@dataclass(frozen=True)
class AttentionSpans:
    """What `MMEncoderAttention` wants to know about the runs of a sequence that attend together."""

    cu_seqlens: torch.Tensor
    max_seqlen: torch.Tensor
    sequence_lengths: torch.Tensor | None

    def arguments(self) -> dict[str, torch.Tensor | None]:
        return {
            "cu_seqlens": self.cu_seqlens,
            "max_seqlen": self.max_seqlen,
            "sequence_lengths": self.sequence_lengths,
        }


class EncoderAttentionLayout:
    """Turns span borders into the form that the chosen attention backend reads."""

    def __init__(self, hidden_size: int, num_heads: int, tp_size: int) -> None:
        head_dim = hidden_size // num_heads
        self.hidden_size = hidden_size
        self.tp_size = tp_size
        self.backend = get_vit_attn_backend(head_size=head_dim, dtype=torch.get_default_dtype())
        self.fp8_padded_hidden_size = get_fp8_padded_hidden_size(num_heads, head_dim)

    def spans(self, borders: npt.NDArray[np.int64], device: torch.device) -> AttentionSpans:
        """``borders``: cumulative tokens ``[spans + 1]``, on the host."""
        borders = borders.astype(np.int32)
        longest = MMEncoderAttention.compute_max_seqlen(self.backend, borders)
        return AttentionSpans(
            cu_seqlens=MMEncoderAttention.maybe_recompute_cu_seqlens(
                self.backend,
                borders,
                self.hidden_size,
                self.tp_size,
                device,
                fp8_padded_hidden_size=self.fp8_padded_hidden_size,
            ),
            # Backends read this number on the host: kept on the CPU it costs no synchronisation.
            max_seqlen=torch.tensor(longest, dtype=torch.int32, device="cpu"),
            sequence_lengths=MMEncoderAttention.maybe_compute_seq_lens(
                self.backend, borders, device
            ),
        )


def refuse_unsupported(vllm_config: VllmConfig) -> None:
    """Raise ValueError, by name, for options of vLLM that this model would silently ignore."""
    multimodal = vllm_config.model_config.get_multimodal_config()
    if multimodal.video_pruning_rate:
        raise ValueError("--video-pruning-rate is not supported by Saccade's Qwen2.5-VL")
    for option in ("compile_mm_encoder", "cudagraph_mm_encoder"):
        if getattr(vllm_config.compilation_config, option, False):
            raise ValueError(
                f"compilation option {option} is not supported by Saccade's Qwen2.5-VL"
            )

"""The one place in `model/` that touches vLLM's unstable insides. Checked on vLLM 0.32.0.

Everything else in the package uses vLLM's model-author interface: parallel layers, model
protocols, the multimodal processor's base classes.
"""

from vllm.config import VllmConfig
from vllm.model_executor.models.vision import (
    is_vit_use_data_parallel,
    run_dp_sharded_mrope_vision_model,
)
from vllm.utils.torch_utils import async_tensor_h2d

__all__ = [
    "async_tensor_h2d",
    "is_vit_use_data_parallel",
    "refuse_unsupported",
    "run_dp_sharded_mrope_vision_model",
]


def refuse_unsupported(vllm_config: VllmConfig) -> None:
    """Raise ValueError, by name, for options of vLLM that this model would silently ignore."""
    multimodal = vllm_config.model_config.get_multimodal_config()
    if multimodal.video_pruning_rate:
        raise ValueError("--video-pruning-rate is not supported by Saccade's Qwen2.5-VL")
    for option in ("mm_encoder_attn_backend", "mm_encoder_attn_dtype"):
        if getattr(multimodal, option) is not None:
            flag = "--" + option.replace("_", "-")
            raise ValueError(
                f"{flag} is not supported by Saccade's Qwen2.5-VL, whose tower has attention of "
                "its own: see SACCADE_KERNELS"
            )
    for option in ("compile_mm_encoder", "cudagraph_mm_encoder"):
        if getattr(vllm_config.compilation_config, option, False):
            raise ValueError(
                f"compilation option {option} is not supported by Saccade's Qwen2.5-VL"
            )

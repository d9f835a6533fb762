"""vLLM's unstable insides, for the rest of `model/`: here and in `model/cpu/`, and nowhere else.

The rest of the package uses vLLM's interface for authors of models: the registry, configurations,
parallel layers and what they need of the process groups, protocols and helpers of models, the
multimodal processor's base classes and what they return. `tests/support/measures/rooms.py` lists
that interface by modules (`VLLM_INTERFACE`) and prints what is imported beyond it.
"""

from vllm.config import VllmConfig
from vllm.inputs.engine import MultiModalInput
from vllm.model_executor.models.vision import (
    is_vit_use_data_parallel,
    run_dp_sharded_mrope_vision_model,
)
from vllm.platforms import current_platform
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.worker.encoder_cudagraph_defs import (
    ENCODER_CUDAGRAPH_AXIS_KEYS_KWARG,
    EncoderCudaGraphCaptureInputs,
    EncoderCudaGraphConfig,
    EncoderCudaGraphReplayBuffers,
    EncoderItemSpec,
)

from saccade.kernels.dispatch import KERNELS_ENV, OPERATIONS, select_backend
from saccade.model.cpu.cache_dtype import refuse_cache_dtype

__all__ = [
    "ENCODER_CUDAGRAPH_AXIS_KEYS_KWARG",
    "EncoderCudaGraphCaptureInputs",
    "EncoderCudaGraphConfig",
    "EncoderCudaGraphReplayBuffers",
    "EncoderItemSpec",
    "MultiModalInput",
    "async_tensor_h2d",
    "is_vit_use_data_parallel",
    "refuse_graphs",
    "refuse_unsupported",
    "run_dp_sharded_mrope_vision_model",
]


def refuse_unsupported(vllm_config: VllmConfig) -> None:
    """Raise ValueError, by name, for options of vLLM that would be ignored, or answer wrongly."""
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
    if current_platform.is_cpu():
        refuse_cache_dtype(vllm_config.cache_config.cache_dtype, vllm_config.model_config.dtype)
    compilation = vllm_config.compilation_config
    if compilation.compile_mm_encoder:
        raise ValueError(
            "compilation option compile_mm_encoder is not supported by Saccade's Qwen2.5-VL"
        )
    if compilation.cudagraph_mm_encoder:
        refuse_graphs(vllm_config, current_platform.device_type)


def refuse_graphs(vllm_config: VllmConfig, device_type: str) -> None:
    """Raise ValueError where the tower cannot be captured as CUDA graphs, and say why."""
    option = "compilation option cudagraph_mm_encoder"
    if device_type != "cuda":
        raise ValueError(f"{option} needs a GPU; this is {device_type}")
    for operation in OPERATIONS:
        chosen = select_backend(operation, device_type)
        if chosen.backend == "triton":
            continue
        if chosen.reason.startswith(KERNELS_ENV):
            raise ValueError(
                f"{option} needs kernels that a graph can hold: {KERNELS_ENV} must be auto"
            )
        raise ValueError(
            f"{option} needs kernels that a graph can hold; {operation}: {chosen.reason}"
        )
    if vllm_config.compilation_config.encoder_cudagraph_max_frames_per_batch is not None:
        raise ValueError(
            "compilation option encoder_cudagraph_max_frames_per_batch is not supported by "
            "Saccade's Qwen2.5-VL, where it follows from encoder_cudagraph_token_budgets"
        )
    lora = vllm_config.lora_config
    if lora is not None and lora.enable_tower_connector_lora:
        raise ValueError(f"{option} and --enable-tower-connector-lora exclude each other")

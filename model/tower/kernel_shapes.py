"""The sizes at which a model's kernels prove themselves when it is built: its own."""

from typing import Any

from vllm.config import VllmConfig
from vllm.platforms import current_platform

from saccade.kernels.dispatch import prove_triton_kernels
from saccade.kernels.launch.tuning import LONGEST_WINDOW
from saccade.kernels.self_test.cases import EDGES, Shapes
from saccade.model.tower.vision import tower_tp_size


def prove_kernels(vllm_config: VllmConfig) -> None:
    """Have Triton's backends of the operations prove themselves, where they would run.

    One that fails is out of use in this process and its next backend takes over; the log says so.
    """
    dtype = vllm_config.model_config.dtype
    prove_triton_kernels(current_platform.device_type, dtype, read_shapes(vllm_config))


def read_shapes(vllm_config: VllmConfig) -> Shapes:
    """Sizes of this worker's share of the model."""
    model, parallel = vllm_config.model_config, vllm_config.parallel_config
    vision, text = model.hf_config.vision_config, model.hf_text_config
    heads, head_dim = model.get_num_attention_heads(parallel), model.get_head_size()
    rope: dict[str, Any] = getattr(text, "rope_parameters", None) or {}
    sections = tuple(rope.get("mrope_section", ()))
    interleaved = bool(rope.get("mrope_interleaved", False))
    mrope = (heads, model.get_num_kv_heads(parallel), head_dim, sections, interleaved)
    fits = len(sections) == 3 and sum(sections) == head_dim // 2
    window = (vision.window_size // vision.patch_size) ** 2
    return Shapes(
        attention=((vision.num_heads // tower_tp_size(), vision.hidden_size // vision.num_heads),),
        longest_window=min(window, LONGEST_WINDOW),
        mrope=(mrope,) if fits else EDGES.mrope,
        hidden=(vision.hidden_size,),
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
    )

"""vLLM's protocol for vision towers as CUDA graphs, on `encoder_graph`.

Switched on by vLLM's own option::

    --compilation-config '{"cudagraph_mm_encoder": true}'

vLLM captures a graph for each budget, packs media into batches, replays, and hands out the
outputs' rows. What fits no budget is encoded without a graph.
"""

from collections.abc import Hashable
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import SupportsEncoderCudaGraph

from saccade.model.compat import (
    ENCODER_CUDAGRAPH_AXIS_KEYS_KWARG,
    EncoderCudaGraphCaptureInputs,
    EncoderCudaGraphConfig,
    EncoderCudaGraphReplayBuffers,
    EncoderItemSpec,
)
from saccade.model.inputs.profiling import MAX_FRAMES
from saccade.model.tower.encoder_graph import (
    BUFFERS,
    MODALITIES,
    PADDING,
    GraphCapacity,
    as_buffers,
    as_inputs,
    budget_range,
    cost,
    empty_buffers,
)
from saccade.model.tower.inputs import join_pixels, prepare_inputs
from saccade.model.tower.vision import VisionTower

_PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}
_GRIDS = {"image": "image_grid_thw", "video": "video_grid_thw"}


class TowerGraphs(SupportsEncoderCudaGraph):
    """For a model with a `VisionTower`. Arguments and results are those of vLLM's protocol;
    ``mm_kwargs`` are those of `embed_multimodal`, media of one modality."""

    visual: VisionTower
    graph_modalities: tuple[str, ...]

    def choose_graph_modalities(self, vllm_config: VllmConfig) -> None:
        """Graphs are captured for what a prompt may hold."""
        multimodal = vllm_config.model_config.get_multimodal_config()
        self.graph_modalities = tuple(
            modality for modality in MODALITIES if multimodal.get_limit_per_prompt(modality)
        )

    def get_encoder_cudagraph_config(self) -> EncoderCudaGraphConfig:
        return EncoderCudaGraphConfig(
            modalities=list(self.graph_modalities),
            buffer_keys=list(BUFFERS),
            out_hidden_size=self.visual.out_hidden_size,
            padding_logics=PADDING,
            max_frames_per_video=self.get_max_frames_per_video(),
            capture_axes=(self.graph_modalities,),
        )

    def get_input_modality(self, mm_kwargs: dict[str, Any]) -> str:
        return next(modality for modality in MODALITIES if _GRIDS[modality] in mm_kwargs)

    def get_max_frames_per_video(self) -> int:
        return MAX_FRAMES

    def get_encoder_cudagraph_budget_range(self, vllm_config: VllmConfig) -> tuple[int, int]:
        return budget_range(
            min(
                vllm_config.scheduler_config.max_num_batched_tokens,
                vllm_config.model_config.max_model_len,
            )
        )

    def get_encoder_cudagraph_item_specs(self, mm_kwargs: dict[str, Any]) -> list[EncoderItemSpec]:
        modality, geometry = self.get_input_modality(mm_kwargs), self.visual.geometry
        return [
            EncoderItemSpec(
                input_size=t * h * w,
                output_tokens=t * h * w // geometry.unit,
                path_output_tokens={"default": cost((t, h, w), modality, geometry)},
            )
            for t, h, w in mm_kwargs[_GRIDS[modality]].tolist()
        ]

    def select_encoder_cudagraph_items(
        self, mm_kwargs: dict[str, Any], indices: list[int]
    ) -> dict[str, Any]:
        modality = self.get_input_modality(mm_kwargs)
        pixels, grids = mm_kwargs[_PIXELS[modality]], mm_kwargs[_GRIDS[modality]]
        return {
            _PIXELS[modality]: [pixels[index] for index in indices],
            _GRIDS[modality]: grids[indices],
            ENCODER_CUDAGRAPH_AXIS_KEYS_KWARG: (modality,),
        }

    def prepare_encoder_cudagraph_capture_inputs(
        self,
        token_budget: int,
        max_batch_size: int,
        max_frames_per_batch: int,
        device: torch.device,
        dtype: torch.dtype,
        path: str = "default",
        axis_keys: tuple[Hashable, ...] | None = None,
    ) -> EncoderCudaGraphCaptureInputs:
        assert axis_keys is not None
        (modality,) = map(str, axis_keys)
        geometry = self.visual.geometry
        capacity = GraphCapacity.of(token_budget, modality, geometry, max_batch_size)
        return EncoderCudaGraphCaptureInputs(empty_buffers(capacity, modality, geometry, device))

    def prepare_encoder_cudagraph_replay_buffers(
        self,
        mm_kwargs: dict[str, Any],
        max_batch_size: int,
        max_frames_per_batch: int,
        path: str = "default",
    ) -> EncoderCudaGraphReplayBuffers:
        pixels, grids = self._joined(mm_kwargs)
        self.visual.patch_embed.folded(pixels.shape[1])  # a graph does not look for new weights
        inputs = prepare_inputs(pixels, grids, self.visual.geometry, self.visual.device)
        return EncoderCudaGraphReplayBuffers(dict(as_buffers(inputs)))

    def encoder_cudagraph_forward(
        self, inputs: dict[str, torch.Tensor], path: str = "default"
    ) -> torch.Tensor:
        return self.visual.encode(as_inputs(inputs, self.visual.geometry))

    def encoder_eager_forward(
        self, mm_kwargs: dict[str, Any], path: str = "default"
    ) -> torch.Tensor:
        return self.visual(*self._joined(mm_kwargs))

    def _joined(self, mm_kwargs: dict[str, Any]) -> tuple[torch.Tensor, list[list[int]]]:
        modality = self.get_input_modality(mm_kwargs)
        return join_pixels(mm_kwargs[_PIXELS[modality]]), mm_kwargs[_GRIDS[modality]].tolist()

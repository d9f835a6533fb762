"""Qwen2.5-VL for vLLM: Saccade's vision tower and positions on vLLM's Qwen2 language model."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import (
    MultiModalEmbeddings,
    SupportsLoRA,
    SupportsMRoPE,
    SupportsMultiModal,
    SupportsPP,
    SupportsQuant,
)
from vllm.model_executor.models.module_mapping import MultiModelKeys
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    PPMissingLayer,
    StageMissingLayer,
    WeightsMapper,
    init_vllm_registered_model,
    maybe_prefix,
)
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFeatureSpec, MultiModalKwargsItem
from vllm.sequence import IntermediateTensors

from saccade.kernels.full_attention import provide_flash_attention
from saccade.model.checkpoint_config import read_normalisation
from saccade.model.compat import refuse_unsupported, run_dp_sharded_mrope_vision_model
from saccade.model.compat.flash_attention import find_flash_attention
from saccade.model.cpu.generators import guard_generators
from saccade.model.cpu.idle_wait import block_instead_of_spin
from saccade.model.cpu.replaced_layers import replaced_layers
from saccade.model.cpu.video_chunks import GRIDS_BEFORE
from saccade.model.inputs.processor import QwenVLDummyInputs, QwenVLProcessingInfo, QwenVLProcessor
from saccade.model.positions import MediumPosition, mrope_positions
from saccade.model.tower.graph_protocol import TowerGraphs
from saccade.model.tower.inputs import join_pixels
from saccade.model.tower.kernel_shapes import prove_kernels
from saccade.model.tower.vision import VisionTower
from saccade.model.weights import CheckpointNames

_PLACEHOLDERS = {
    "image": "<|vision_start|><|image_pad|><|vision_end|>",
    "video": "<|vision_start|><|video_pad|><|vision_end|>",
}


@MULTIMODAL_REGISTRY.register_processor(
    QwenVLProcessor, info=QwenVLProcessingInfo, dummy_inputs=QwenVLDummyInputs
)
class SaccadeQwen2_5_VL(
    nn.Module,
    SupportsMultiModal,
    SupportsLoRA,
    SupportsPP,
    SupportsQuant,
    SupportsMRoPE,
    TowerGraphs,
):
    """Replaces vLLM's model of the same architecture; the same checkpoints, flags and inputs."""

    # Methods of SupportsMultiModal, declared for the type checker, which does not follow vLLM.
    _mark_tower_model: Any
    _mark_language_model: Any

    supports_encoder_tp_data = True
    supports_mm_device_do_normalize = True
    supports_tower_connector_lora = True

    packed_modules_mapping = {  # noqa: RUF012 (vLLM declares these as plain attributes)
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
        "qkv": ["qkv"],
    }
    hf_to_vllm_mapper = WeightsMapper(
        orig_to_new_prefix={
            # Saved by recent transformers; then the layout of published checkpoints.
            "model.language_model.": "language_model.model.",
            "model.visual.": "visual.",
            "lm_head.": "language_model.lm_head.",
            "model.": "language_model.model.",
        }
    )

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        return _PLACEHOLDERS[modality]

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        block_instead_of_spin()
        provide_flash_attention(find_flash_attention)
        prove_kernels(vllm_config)  # first: what follows asks which backends run
        guard_generators()
        refuse_unsupported(vllm_config)
        self.choose_graph_modalities(vllm_config)
        model_config = vllm_config.model_config
        multimodal = model_config.get_multimodal_config()
        self.config = model_config.hf_config
        self.quantized = model_config.quantization is not None
        self.data_parallel_tower = multimodal.mm_encoder_tp_mode == "data"
        with replaced_layers(), self._mark_tower_model(vllm_config, {"image", "video"}):
            self.visual = VisionTower(
                self.config.vision_config,
                read_normalisation(model_config.hf_image_processor_config),
                self.quant_config,
                maybe_prefix(prefix, "visual"),
            )
        with replaced_layers(), self._mark_language_model(vllm_config):
            self.language_model = init_vllm_registered_model(
                vllm_config=vllm_config,
                prefix=maybe_prefix(prefix, "language_model"),
                architectures=["Qwen2ForCausalLM"],
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    def get_mrope_input_positions(
        self, input_tokens: list[int], mm_features: list[MultiModalFeatureSpec]
    ) -> tuple[torch.Tensor, int]:
        """Positions ``[3, tokens]`` of a prompt, and the offset of the tokens generated after."""
        config = self.config.vision_config
        merge_size = config.spatial_merge_size
        media: list[MediumPosition] = []
        for feature in mm_features:
            data = feature.data
            t, h, w = data[f"{feature.modality}_grid_thw"].data.tolist()
            if GRIDS_BEFORE in data and (before := data[GRIDS_BEFORE].data.item()):
                # The video goes on, and with it its time.
                media[-1] = replace(media[-1], grid=(before + t, *media[-1].grid[1:]))
                continue
            seconds = None
            if feature.modality == "video":
                seconds = data["second_per_grid_ts"].data.item()
            grid = (t, h // merge_size, w // merge_size)
            media.append(MediumPosition(feature.mm_position.offset, grid, seconds))
        positions, delta = mrope_positions(len(input_tokens), media, config.tokens_per_second)
        return torch.from_numpy(positions), delta

    def embed_multimodal(self, **kwargs: Any) -> MultiModalEmbeddings:
        """Encode a batch of media of one modality; one ``[tokens, hidden]`` tensor each."""
        embeddings: list[torch.Tensor] = []
        for modality, name in (("image", "pixel_values"), ("video", "pixel_values_videos")):
            if kwargs.get(name) is None:
                continue
            pixels, grids = join_pixels(kwargs[name]), kwargs[f"{modality}_grid_thw"].tolist()
            if self.data_parallel_tower:
                embeddings += run_dp_sharded_mrope_vision_model(
                    self.visual, pixels, grids, rope_type="rope_3d"
                )
            else:
                unit = self.visual.spatial_merge_size**2
                lengths = [t * h * w // unit for t, h, w in grids]
                embeddings += self.visual(pixels, grids).split(lengths)
        return tuple(embeddings)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: object,
    ) -> torch.Tensor | IntermediateTensors:
        """Hidden states ``[tokens, hidden]`` of the language model; positions ``[3, tokens]``."""
        if intermediate_tensors is not None:
            inputs_embeds = None
        return self.language_model.model(
            input_ids=input_ids,
            positions=positions,
            intermediate_tensors=intermediate_tensors,
            inputs_embeds=inputs_embeds,
        )

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load a checkpoint of either layout.

        Raises:
            ValueError: the checkpoint lacks a weight or holds one that has no place, by name.
        """
        names = CheckpointNames()
        recorded = names.record(self.hf_to_vllm_mapper.apply(weights))
        loaded = AutoWeightsLoader(self).load_weights(recorded)
        # Quantised checkpoints bring names of their own. A model of which only a part is built (a
        # pipeline stage, one whose tower is switched off) sees names it does not own.
        partial = any(isinstance(m, PPMissingLayer | StageMissingLayer) for m in self.modules())
        if not self.quantized and not partial:
            names.check(name for name, _ in self.named_parameters())
        return loaded

    def get_mm_mapping(self) -> MultiModelKeys:
        """Where LoRA finds the parts of the model."""
        return MultiModelKeys.from_string_field(
            language_model="language_model", connector="visual.merger.", tower_model="visual."
        )

    def get_mm_lora_token_counts(
        self,
        *,
        modality: str,
        mm_kwargs: MultiModalKwargsItem | None,
        num_mm_embeds: int,
    ) -> tuple[int, int | None]:
        """Tokens in the tower (patches) and in the merger for ``num_mm_embeds`` embeddings."""
        return num_mm_embeds * self.visual.spatial_merge_size**2, num_mm_embeds

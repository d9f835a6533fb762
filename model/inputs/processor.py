"""vLLM's multimodal processor for Qwen2.5-VL: uint8 rasters, grids, placeholders and hashes.

Takes the planned media of Saccade's front end as they are, and vLLM's ordinary inputs (images,
arrays, frames with metadata) through the same planning. Neither torchvision nor a Hugging Face
processor is involved: nothing is normalised or cut into patches on the host.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from transformers import BatchFeature, PretrainedConfig
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.parse import MultiModalDataItems
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    ProcessorInputs,
    PromptReplacement,
    PromptUpdate,
    TimingContext,
)

from saccade.media.items import DecodedImage, DecodedVideo
from saccade.media.planning.plan import PixelLimits, VisionGeometry
from saccade.model.checkpoint_config import read_geometry, read_pixel_limits
from saccade.model.compat import MultiModalInput
from saccade.model.compat.engine_input import ON_CPU, planned_input, tensors_of
from saccade.model.cpu.idle_wait import block_instead_of_spin
from saccade.model.inputs.parser import PlannedMediaParser, plan_frames, plan_still
from saccade.model.inputs.profiling import largest_image, largest_video

_PIXEL_KWARGS = {"min_pixels", "max_pixels", "size"}
_SAMPLING_KWARGS = {"fps", "num_frames", "min_frames", "max_frames", "do_sample_frames"}
# Switched off by vLLM for models that normalise on the device, as this one always does.
_HOST_STEPS = ("do_normalize", "do_rescale")
MODALITIES = ("image", "video")


class QwenVLProcessingInfo(BaseProcessingInfo):
    """What vLLM asks about the model's media before it has seen any."""

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return dict.fromkeys(MODALITIES)

    def get_supported_mm_processor_kwargs(self) -> dict[str, set[str]]:
        return {
            "images_kwargs": _PIXEL_KWARGS,
            "videos_kwargs": _PIXEL_KWARGS | _SAMPLING_KWARGS,
        }

    def get_data_parser(self) -> PlannedMediaParser:
        return PlannedMediaParser(video_needs_metadata=True)

    def get_mm_max_tokens_per_item(
        self,
        seq_len: int,
        mm_counts: Mapping[str, int],
    ) -> Mapping[str, int]:
        # The engine core makes no model; its scheduler asks this once, when it starts.
        block_instead_of_spin()
        geometry = self.geometry
        height, width = largest_image(self.pixel_limits("image"), geometry)
        frames, frame_height, frame_width = largest_video(
            seq_len, self.pixel_limits("video"), geometry
        )
        grids = frames // geometry.temporal_patch_size
        return {
            "image": height * width // geometry.factor**2,
            "video": grids * frame_height * frame_width // geometry.factor**2,
        }

    @property
    def vision_config(self) -> PretrainedConfig:
        return self.get_hf_config().vision_config

    @property
    def geometry(self) -> VisionGeometry:
        return read_geometry(self.vision_config)

    def processor_kwargs(self, kwargs: Mapping[str, object], modality: str) -> dict[str, Any]:
        """Processor options in force for a modality: those of the server, then the request's.

        Raises:
            ValueError: an option is not one that this model honours.
        """
        # Private: a public name for options in force would do instead.
        merged = self._merge_and_resolve_mm_processor_kwargs(kwargs)
        scopes = {f"{name}s_kwargs" for name in MODALITIES}
        on_device = {name for name in _HOST_STEPS if merged.get(name) is False}
        if unknown := sorted(set(merged) - scopes - on_device):
            raise ValueError(f"unknown mm_processor_kwargs: {', '.join(unknown)}")
        scope = f"{modality}s_kwargs"
        options = merged.get(scope, {})
        if unknown := sorted(set(options) - self.supported_mm_processor_kwargs[scope]):
            raise ValueError(f"unknown mm_processor_kwargs: {scope}.{unknown[0]}")
        return options

    def pixel_limits(
        self, modality: str, kwargs: Mapping[str, object] | None = None
    ) -> PixelLimits:
        """Pixel limits in force: the checkpoint's, the server's, then the request's."""
        return read_pixel_limits(
            self.ctx.get_hf_image_processor_config(),
            self.processor_kwargs(kwargs or {}, modality),
        )


class QwenVLDummyInputs(BaseDummyInputsBuilder[QwenVLProcessingInfo]):
    """The largest media that fit, with which the engine measures its memory."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        config = self.info.get_hf_config()
        ids = {"image": config.image_token_id, "video": config.video_token_id}
        tokenizer = self.info.get_tokenizer()
        return "".join(
            tokenizer.convert_ids_to_tokens([ids[modality]])[0] * mm_counts.get(modality, 0)
            for modality in MODALITIES
        )

    def get_dummy_mm_data(
        self,
        seq_len: int,
        mm_counts: Mapping[str, int],
        mm_options: Mapping[str, Any],
    ) -> dict[str, Any]:
        geometry = self.info.geometry
        height, width = largest_image(self.info.pixel_limits("image"), geometry)
        frames, frame_height, frame_width = largest_video(
            seq_len, self.info.pixel_limits("video"), geometry
        )
        # Private, though models of vLLM's own call them: public names would do instead.
        images = self._get_dummy_images(
            width=width,
            height=height,
            num_images=mm_counts.get("image", 0),
            overrides=mm_options.get("image"),
        )
        videos = self._get_dummy_videos(
            width=frame_width,
            height=frame_height,
            num_frames=frames,
            num_videos=mm_counts.get("video", 0),
            overrides=mm_options.get("video"),
        )
        return {
            "image": images,
            "video": [(video, {"fps": 2.0, "total_num_frames": len(video)}) for video in videos],
        }


class QwenVLProcessor(BaseMultiModalProcessor[QwenVLProcessingInfo]):
    """The step between the renderer and the engine. Costs next to nothing for planned media."""

    def apply(self, inputs: ProcessorInputs, timing_ctx: TimingContext) -> MultiModalInput:
        return planned_input(inputs, self._placeholders) or super().apply(inputs, timing_ctx)

    @cached_property
    def _placeholders(self) -> dict[str, int]:
        config = self.info.get_hf_config()
        return {"image": config.image_token_id, "video": config.video_token_id}

    def _call_hf_processor(
        self, hf_data: Mapping[str, Any], hf_kwargs: Mapping[str, object]
    ) -> BatchFeature:
        """Stands in for the Hugging Face processor: rasters in memory order, grids, seconds."""
        geometry = self.info.geometry
        media: list[DecodedImage | DecodedVideo] = []
        if items := hf_data.get("images"):
            limits = self.info.pixel_limits("image", hf_kwargs)
            media += [
                item if isinstance(item, DecodedImage) else plan_still(item, geometry, limits)
                for item in items
            ]
        if items := hf_data.get("videos"):
            limits = self.info.pixel_limits("video", hf_kwargs)
            sampling = self.info.processor_kwargs(hf_kwargs, "video")
            media += [
                item
                if isinstance(item, DecodedVideo)
                else plan_frames(item[0], item[1], sampling, geometry, limits)
                for item in items
            ]
        fields = defaultdict(list)
        for medium in media:
            for name, tensor in tensors_of(medium).items():
                fields[name].append(tensor)
        return BatchFeature(dict(fields))

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        modalities = {
            "pixel_values": "image",
            "image_grid_thw": "image",
            "pixel_values_videos": "video",
            "video_grid_thw": "video",
            "second_per_grid_ts": "video",
        }
        return {
            name: MultiModalFieldConfig.batched(modality, keep_on_cpu=name in ON_CPU)
            for name, modality in modalities.items()
        }

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, object],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptUpdate]:
        unit = self.info.vision_config.spatial_merge_size**2

        def replacement(modality: str, token: int) -> PromptReplacement:
            def placeholders(index: int) -> list[int]:
                grid = out_mm_kwargs[modality][index][f"{modality}_grid_thw"].data
                return [token] * (math.prod(grid.tolist()) // unit)

            return PromptReplacement(modality=modality, target=[token], replacement=placeholders)

        return [replacement(modality, token) for modality, token in self._placeholders.items()]

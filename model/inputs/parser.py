"""vLLM's parser of media, for decoded media of Saccade and of vLLM's own loaders.

Images and frames that reach the engine without Saccade's front end (``LLM.generate``, plain
``vllm serve``) are already decoded. They are resized as the checkpoint's preprocessor
configuration says, frames are sampled as `saccade.media.planning` samples them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from vllm.multimodal.parse import (
    ImageProcessorItems,
    MultiModalDataItems,
    MultiModalDataParser,
    VideoProcessorItems,
)

from saccade.media.controls import ImageControls, VideoControls
from saccade.media.decode.image import to_rgb
from saccade.media.decode.resize import resize
from saccade.media.items import DecodedImage, DecodedVideo, EngineMedium
from saccade.media.planning.decoded_frames import FrameSource, plan_decoded_frames
from saccade.media.planning.plan import PixelLimits, VisionGeometry, plan_image

_DEFAULT_FPS = 24.0  # what transformers assumes where metadata has no frame rate


class PlannedImages(ImageProcessorItems):
    """Images that Saccade has planned, all of them."""

    def get_item_for_hash(self, index: int) -> object:
        return self.data[index].digest


class PlannedVideos(VideoProcessorItems):
    """Videos that Saccade has planned, all of them."""

    def get_item_for_hash(self, index: int) -> object:
        return self.data[index].digest


_PLANNED: dict[str, Any] = {"image": PlannedImages, "video": PlannedVideos}


class PlannedMediaParser(MultiModalDataParser):
    """vLLM's parser, which also lets planned media through and hashes them by their digest."""

    def parse_mm_data(self, mm_data: Mapping[str, Any]) -> MultiModalDataItems:
        planned, others = {}, {}
        for modality, data in mm_data.items():
            items = data if isinstance(data, list) else [data]
            kinds = {item.modality if isinstance(item, EngineMedium) else None for item in items}
            if kinds == {modality}:
                planned[modality] = _PLANNED[modality](items)
            else:
                others[modality] = data
        parsed = super().parse_mm_data(others)
        parsed.update(planned)
        return parsed


def plan_still(item: Any, geometry: VisionGeometry, limits: PixelLimits) -> DecodedImage:
    """An image or array at the size that the limits give it.

    Args:
        item: A PIL image, or uint8 ``[height, width, 3]`` or ``[3, height, width]``.

    Raises:
        ValueError: the array is of another type or shape.
    """
    pixels = to_rgb(item) if isinstance(item, Image.Image) else _rasters(item, "image")
    plan = plan_image(pixels.shape[1], pixels.shape[0], ImageControls(), geometry, limits)
    return DecodedImage(resize(pixels, plan.height, plan.width), plan, digest="")


def plan_frames(
    frames: Any,
    metadata: Mapping[str, Any],
    sampling: Mapping[str, Any],
    geometry: VisionGeometry,
    limits: PixelLimits,
) -> DecodedVideo:
    """Decoded frames with metadata, sampled if asked, at the size that the limits give them.

    Args:
        frames: uint8 ``[frames, height, width, 3]`` or ``[frames, 3, height, width]``.
        metadata: As vLLM's video loaders give it: ``fps`` of the source, ``total_num_frames``,
            ``frames_indices`` of ``frames`` in the source, ``do_sample_frames`` when ``frames``
            are still to be sampled.
        sampling: ``fps`` or ``num_frames``, ``min_frames``, ``max_frames``, ``do_sample_frames``
            (which overrides the metadata's).

    Raises:
        ValueError: no frames, another type or shape, or sampling that cannot be met.
    """
    pixels = _rasters(frames, "video")
    if not len(pixels):
        raise ValueError("the video has no frames")
    source_frames = int(metadata.get("total_num_frames") or len(pixels))
    source_fps = float(metadata.get("fps") or _DEFAULT_FPS)
    indices = metadata.get("frames_indices")
    indices = range(len(pixels)) if indices is None else np.asarray(indices).tolist()
    if len(indices) != len(pixels):
        raise ValueError(f"{len(pixels)} frames with {len(indices)} frames_indices")

    controls = None
    if sampling.get("do_sample_frames", metadata.get("do_sample_frames", False)):
        controls = VideoControls(
            fps=sampling.get("fps"),
            nframes=sampling.get("num_frames"),
            min_frames=sampling.get("min_frames"),
            max_frames=sampling.get("max_frames"),
        )
    height, width = pixels.shape[1:3]
    source = FrameSource(width, height, indices, source_frames, source_fps)
    places, plan = plan_decoded_frames(source, controls, geometry, limits)
    if places != list(range(len(pixels))):
        pixels = pixels[places]
    return DecodedVideo(resize(pixels, plan.height, plan.width), plan, digest="")


def _rasters(data: Any, name: str) -> npt.NDArray[np.uint8]:
    """uint8 ``[..., height, width, 3]`` of an array, a tensor, or a sequence of images."""
    if isinstance(data, torch.Tensor):
        data = data.cpu().numpy()
    elif isinstance(data, Sequence):
        data = np.stack([to_rgb(frame) for frame in data])
    dimensions = 4 if name == "video" else 3
    if not isinstance(data, np.ndarray) or data.ndim != dimensions or 3 not in data.shape[-3::2]:
        shape = getattr(data, "shape", type(data).__name__)
        raise ValueError(f"the {name} must be an array of pixels with 3 channels, not {shape}")
    if data.dtype != np.uint8:
        raise ValueError(f"the {name} must hold uint8 pixels, not {data.dtype}")
    if data.shape[-1] != 3:
        data = np.moveaxis(data, -3, -1)
    return np.ascontiguousarray(data)

"""What a checkpoint's configuration says about pixels, in the types of `saccade.media`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PretrainedConfig

from saccade.media.planning.plan import PixelLimits, VisionGeometry

# The preprocessor of published checkpoints (CLIP's statistics), for those that carry none.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Normalisation:
    """``(x * rescale_factor - mean) / std`` on uint8, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    rescale_factor: float


def read_geometry(vision_config: PretrainedConfig) -> VisionGeometry:
    """Patch sizes of a checkpoint's vision configuration."""
    return VisionGeometry(
        patch_size=vision_config.patch_size,
        merge_size=vision_config.spatial_merge_size,
        temporal_patch_size=vision_config.temporal_patch_size,
    )


def read_normalisation(preprocessor: Mapping[str, Any]) -> Normalisation:
    """Normalisation of a checkpoint's preprocessor_config.json."""
    rescale = preprocessor.get("rescale_factor", 1 / 255)
    if not preprocessor.get("do_rescale", True):
        rescale = 1.0
    mean, std = preprocessor.get("image_mean", _MEAN), preprocessor.get("image_std", _STD)
    if not preprocessor.get("do_normalize", True):
        mean, std = (0.0,) * len(mean), (1.0,) * len(std)
    return Normalisation(tuple(mean), tuple(std), rescale)


def read_pixel_limits(*sources: Mapping[str, Any]) -> PixelLimits:
    """Pixel limits of a preprocessor configuration; later sources override earlier ones.

    Each may spell them ``min_pixels``/``max_pixels`` or ``size: {shortest_edge, longest_edge}``;
    the former wins within a source, as in transformers.

    Raises:
        ValueError: a limit is not positive, or the smallest is above the largest.
    """
    limits = PixelLimits()
    smallest, largest = limits.min_pixels, limits.max_pixels
    for source in sources:
        size = source.get("size") or {}
        smallest = _first(source.get("min_pixels"), size.get("shortest_edge"), smallest)
        largest = _first(source.get("max_pixels"), size.get("longest_edge"), largest)
    if not 0 < smallest <= largest:
        raise ValueError(f"min_pixels {smallest} must be positive and at most max_pixels {largest}")
    return PixelLimits(min_pixels=int(smallest), max_pixels=int(largest))


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)

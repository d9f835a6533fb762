"""How a checkpoint cuts pixels, from its configuration files. Loads no weights."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from saccade.media.planning.plan import PixelLimits, VisionGeometry
from saccade.server.checkpoint.bundled import DEMO, bundled_checkpoint


def read_checkpoint_pixels(model: str | None) -> tuple[VisionGeometry, PixelLimits]:
    """Geometry and default pixel limits of a checkpoint.

    Args:
        model: Hugging Face id, folder, or ``demo``; None: the published Qwen2.5-VL checkpoints.

    Raises:
        ValueError: no such checkpoint, or not a Qwen2.5-VL one; names it.
    """
    if model is None:
        return VisionGeometry(), PixelLimits()
    # Here, because the published values need none: transformers takes seconds to import.
    from saccade.model import ARCHITECTURE
    from saccade.model.checkpoint_config import read_geometry, read_pixel_limits
    from saccade.server.checkpoint.lookup import find_checkpoint

    if model != "demo":
        find_checkpoint(model, weights=False)
    config = _read(model, "config.json")
    if ARCHITECTURE not in config.get("architectures", ()):
        raise ValueError(f"{model!r} is not a Qwen2.5-VL model")
    vision: dict[str, Any] = dict(vars(VisionGeometry()))
    vision["spatial_merge_size"] = vision.pop("merge_size")
    geometry = read_geometry(SimpleNamespace(**{**vision, **config["vision_config"]}))
    return geometry, read_pixel_limits(_read_preprocessor(model))


def _read_preprocessor(model: str) -> dict[str, Any]:
    """As transformers reads it: newer ones keep it in the file of the whole processor."""
    try:
        nested = _read(model, "processor_config.json").get("image_processor")
    except ValueError:
        nested = None
    return nested if isinstance(nested, dict) else _read(model, "preprocessor_config.json")


def _read(model: str, name: str) -> dict[str, Any]:
    folder = Path(model)
    if model == DEMO:
        folder = bundled_checkpoint()
    path = folder / name
    if not folder.is_dir():
        from huggingface_hub import hf_hub_download

        try:
            path = Path(hf_hub_download(model, name))
        except Exception as error:  # of many kinds, by what stands between us and the hub
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"cannot read {name} of {model!r}: {reason}") from None
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        raise ValueError(f"{model!r} has no readable {name}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{name} of {model!r} is not a JSON object")
    return value

"""vLLM's vision tower and ours, of published dimensions and with equal weights, in one process."""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

from saccade import model as plugin
from saccade.benchmarks.common.single_process import load_model
from saccade.demo.checkpoints.checkpoint import (
    CheckpointSpec,
    LanguageSpec,
    TowerSpec,
    write_configuration,
)

# As published; of the language model only the width, which is the tower's output.
_LANGUAGES = {
    "3B": LanguageSpec(layers=1, hidden=2048, heads=16, kv_heads=2, intermediate=64),
    "7B": LanguageSpec(layers=1, hidden=3584, heads=28, kv_heads=4, intermediate=64),
}
_FULL_LAYERS = (7, 15, 23, 31)
_LOADER = "saccade_seeded"
_MODULES = {"ours": "saccade.model.qwen2_5_vl", "stock": "vllm.model_executor.models.qwen2_5_vl"}


class UnequalTowers(Exception):
    """The towers are not what is to be compared."""


@dataclass(frozen=True)
class Towers:
    """Three with equal weights.

    Attributes:
        ours: In the format that is measured, as is ``stock``.
        reference: vLLM's in float32, of the first layers only; ``stock`` itself in float32.
        folder: The checkpoint's, without weights.
    """

    ours: Any
    stock: Any
    reference: Any
    folder: Path


def full_layers(layers: int) -> tuple[int, ...]:
    """The layers with full attention of a tower cut off after some; the last if there is none."""
    return tuple(layer for layer in _FULL_LAYERS if layer < layers) or (layers - 1,)


def load_towers(model: str, layers: int, reference_layers: int, dtype: str, place: Path) -> Towers:
    """Load vLLM's own, then ours; the environment must be `stock_environment`.

    Args:
        place: An empty folder for the checkpoints.

    Raises:
        UnequalTowers: a class is not the wanted one, or names or values of weights differ.
    """
    # Two whole ones, because vLLM remembers which class a folder's model has.
    theirs, short, folder = (place / name for name in ("stock", "reference", "ours"))
    for to, depth in ((theirs, layers), (short, reference_layers), (folder, layers)):
        tower = TowerSpec(depth, 1280, 16, 3420, full_layers(depth))
        write_configuration(CheckpointSpec(tower, _LANGUAGES[model]), to)
    stock, stock_weights = _load("stock", theirs, dtype)
    if dtype == "float32":
        reference, some_weights = stock, stock_weights
    else:
        reference, some_weights = _load("stock", short, "float32")
    os.environ.pop("SACCADE_PLUGIN", None)
    plugin.register()
    ours, our_weights = _load("ours", folder, dtype)
    if our_weights != stock_weights or not some_weights.items() <= stock_weights.items():
        raise UnequalTowers("the towers' weights differ")
    return Towers(ours, stock, reference, folder)


def _load(way: str, folder: Path, dtype: str) -> tuple[Any, dict[str, str]]:
    """The tower, and a digest of each of its weights."""
    loaded = load_model(str(folder), dtype=dtype, load_format=_LOADER)
    if type(loaded).__module__ != _MODULES[way]:
        raise UnequalTowers(f"vLLM chose {type(loaded).__module__}, not {_MODULES[way]}")
    return loaded.visual, loaded.tower_digests


@register_model_loader(_LOADER)
class SeededLoader(BaseModelLoader):
    """Gives every weight numbers that depend on its name and shape alone.

    Unlike vLLM's dummy weights they keep activations near 1, so that attention is far from uniform
    and an error in it shows.
    """

    def download_model(self, model_config: Any) -> None:
        """There is nothing to download."""

    def load_weights(self, model: Any, model_config: Any) -> None:
        for name, parameter in model.named_parameters():
            parameter.data.copy_(_numbers(name, parameter.shape))
        # Now: afterwards vLLM packs the weights of linear layers and gives them up.
        model.tower_digests = {
            name: _digest(parameter)
            for name, parameter in model.named_parameters()
            if name.startswith("visual.")
        }


def _numbers(name: str, shape: torch.Size) -> torch.Tensor:
    """Exact in bfloat16, so that they are the same in every format."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    # Named: vLLM loads with the model's format as torch's default.
    drawn = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
    if len(shape) > 1:
        drawn *= shape[1:].numel() ** -0.5
    elif name.endswith("bias"):
        drawn *= 0.1
    else:  # of a norm
        drawn.mul_(0.1).add_(1.0)
    return drawn.bfloat16()


def _digest(parameter: torch.Tensor) -> str:
    values = parameter.detach().float().cpu().contiguous()
    return blake3(values.flatten().view(torch.uint8).numpy().data).hexdigest() + str(
        list(parameter.shape)
    )

"""Both layouts of weight names, tied and untied, three dtypes; wrong checkpoints by name."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import tower_outputs
from child_path import SUPPORT_PATH
from media_samples import raster
from reference import Medium, Reference
from safetensors.torch import load_file, save_file

from saccade.demo.checkpoints.checkpoint import (
    CheckpointSpec,
    LanguageSpec,
    TowerSpec,
    write_checkpoint,
)

SPEC = CheckpointSpec(
    tower=TowerSpec(depth=2, fullatt_block_indexes=(1,)),
    language=LanguageSpec(layers=2, tie_word_embeddings=False),
    dtype="float32",
)
MISSING = ["model.layers.1.self_attn.k_proj.bias", "visual.blocks.0.mlp.up_proj.weight"]
SURPLUS = ["visual.blocks.2.norm1.weight", "visual.merger.ln_q.bias"]


def edited(folder: Path, remove: list[str] | None = None, add: list[str] | None = None) -> Path:
    """SPEC's checkpoint without some weights and with some that the model does not have."""
    write_checkpoint(SPEC, folder)
    weights = load_file(folder / "model.safetensors")
    for name in remove or []:
        del weights[name]
    weights |= {name: torch.zeros(SPEC.tower.hidden) for name in add or []}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def outcomes(folders: list[Path], dtype: str, out: Path) -> dict[str, Any]:
    command = [sys.executable, tower_outputs.__file__, str(out), dtype, *map(str, folders)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": SUPPORT_PATH})
    return torch.load(out)


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("loading")
    folders = [
        write_checkpoint(SPEC, root / "published"),
        write_checkpoint(replace(SPEC, layout="nested"), root / "nested"),
        write_checkpoint(
            replace(SPEC, language=replace(SPEC.language, tie_word_embeddings=True)), root / "tied"
        ),
        *(edited(root / f"without {name}", remove=[name]) for name in MISSING),
        *(edited(root / f"with {name}", add=[name]) for name in SURPLUS),
    ]
    return {"reference": folders[0]} | outcomes(folders, "float32", root / "out.pt")


@pytest.mark.parametrize("layout", ["nested", "tied"])
def test_layouts_hold_the_same_tower(float32: dict[str, Any], layout: str) -> None:
    for ours, theirs in zip(float32[layout], float32["published"], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", MISSING)
def test_missing_weight_is_named(float32: dict[str, Any], name: str) -> None:
    assert f"lacks the weights {_in_model(name)}" in float32[f"without {name}"]


@pytest.mark.parametrize("name", SURPLUS)
def test_surplus_weight_is_named(float32: dict[str, Any], name: str) -> None:
    stem = name.rpartition(".norm1")[0] or name
    assert stem.removeprefix("visual.") in float32[f"with {name}"]


def _in_model(name: str) -> str:
    return name.replace("model.layers", "language_model.model.layers")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_errs_no_more_than_the_reference(
    float32: dict[str, Any], dtype: str, tmp_path: Path
) -> None:
    folder = float32["reference"]
    media = [
        Medium(raster(7, *tower_outputs.IMAGE)),
        Medium(raster(7, *tower_outputs.CLIP), 1.0),
    ]
    exact = Reference(folder)
    truth = [exact.tower([medium]) for medium in media]
    exact.model.to(getattr(torch, dtype))
    stock = [exact.tower([medium]).float() for medium in media]
    ours = outcomes([folder], dtype, tmp_path / "out.pt")[folder.name]
    for true, theirs, mine in zip(truth, stock, ours, strict=True):
        assert (mine - true).abs().mean() <= 1.25 * (theirs - true).abs().mean()
